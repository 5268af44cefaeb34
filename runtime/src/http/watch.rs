//! Whether every worker computes past the time limit.
//!
//! Costs nothing while requests are answered: the first 504 raises a suspicion, which is looked into until it is
//! confirmed or a worker is free again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::answer::Name;

/// What each worker is doing.
#[derive(Debug)]
pub(super) struct Watch {
    started: Instant,
    slots: Vec<Slot>,
    suspicion: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    /// Milliseconds since the start at which it began to compute, plus one; 0 while it does not.
    since: AtomicU64,
    request: Mutex<Option<Name>>,
}

impl Watch {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            started: Instant::now(),
            slots: (0..workers).map(|_| Slot::default()).collect(),
            suspicion: Notify::new(),
        }
    }

    /// A request was not answered in time.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Runs `guest` so that it is known when it computes, and for which request.
    pub(super) async fn observe<T>(&self, worker: usize, request: &Name, guest: impl Future<Output = T>) -> T {
        let slot = &self.slots[worker];
        let mut guest = std::pin::pin!(guest);
        std::future::poll_fn(|context: &mut Context<'_>| {
            slot.begin(self.now(), request);
            let polled: Poll<T> = guest.as_mut().poll(context);
            slot.since.store(0, Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Ends when every worker has computed for longer than `limit`; says on what.
    pub(super) async fn all_stuck(&self, limit: Duration) -> String {
        loop {
            self.suspicion.notified().await;
            while let Some(stuck) = self.youngest_computation() {
                if stuck.age >= limit {
                    return stuck.requests;
                }
                tokio::time::sleep(limit - stuck.age).await;
            }
        }
    }

    /// `None` if a worker is free.
    fn youngest_computation(&self) -> Option<Stuck> {
        let now = self.now();
        let mut youngest = Duration::MAX;
        let mut requests = Vec::new();
        for slot in &self.slots {
            let since = slot.since.load(Ordering::Relaxed).checked_sub(1)?;
            youngest = youngest.min(Duration::from_millis(now.saturating_sub(since)));
            let request = slot.request.lock().unwrap_or_else(PoisonError::into_inner).clone();
            requests.extend(request.map(|name| name.to_string()));
        }
        requests.dedup();
        Some(Stuck { age: youngest, requests: requests.join(", ") })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

struct Stuck {
    age: Duration,
    requests: String,
}

impl Slot {
    fn begin(&self, now: u64, request: &Name) {
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.clone());
        self.since.store(now + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &'static str) -> Name {
        Name { method: http::Method::GET, uri: http::Uri::from_static(path) }
    }

    #[tokio::test]
    async fn a_suspicion_with_a_free_worker_comes_to_nothing() {
        let watch = Watch::new(2);
        watch.slots[0].begin(0, &get("/spin"));
        watch.suspect();
        let mut stuck = std::pin::pin!(watch.all_stuck(Duration::ZERO));
        assert!(futures::poll!(&mut stuck).is_pending(), "the suspicion was looked into and dropped");
        assert!(futures::poll!(&mut stuck).is_pending());
    }

    #[tokio::test]
    async fn when_every_worker_computes_too_long_the_requests_are_named() {
        let watch = Watch::new(2);
        watch.slots[0].begin(0, &get("/spin"));
        watch.slots[1].begin(0, &get("/other"));
        watch.suspect();
        assert_eq!(watch.all_stuck(Duration::from_millis(5)).await, "GET /spin, GET /other");
    }

    #[tokio::test]
    async fn a_guest_that_waits_is_not_computing() {
        let watch = Watch::new(1);
        let name = get("/wait");
        let waiting = watch.observe(0, &name, std::future::pending::<()>());
        let _ = tokio::time::timeout(Duration::from_millis(1), waiting).await;
        assert!(watch.youngest_computation().is_none());
    }
}
