//! How a running guest is asked to end, and what else may change for it while it runs.
//!
//! ```text
//!            stop()                  stop()
//! Deaf ────────────▶ EndNow     Listening ────────▶ Draining ──▶ the guest ends by itself
//!   └── run() of a guest that can drain ──▲
//! ```
//!
//! Guests that can: `wasi:http` ones, and commands that import `samara:process/stop`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::guest::memory::MemoryLimit;

/// The guest's end of a stop request. Given to [`crate::Program::run`].
#[derive(Debug)]
pub struct Stop(Arc<Shared>);

/// The other end: kept by whoever may ask the guest to end. Works from any thread, and before the guest runs.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<Shared>);

/// What the asker has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAction {
    /// This guest cannot end by itself: end the process now, with 143.
    EndNow,
    /// The guest is ending by itself and [`crate::Program::run`] will return.
    Draining,
}

#[derive(Debug)]
struct Shared {
    listening: Mutex<bool>,
    asked: watch::Sender<Option<Asked>>,
    stdin_closed: watch::Sender<bool>,
    memory_limit: MemoryLimit,
}

/// That the guest was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    at: Instant,
    pub(crate) grace: Duration,
}

impl Asked {
    /// What is left of the grace period.
    pub(crate) fn left(self, now: Instant) -> Duration {
        self.grace.saturating_sub(now.saturating_duration_since(self.at))
    }
}

impl Stop {
    /// A connected pair.
    pub fn new() -> (StopHandle, Stop) {
        let shared = Arc::new(Shared {
            listening: Mutex::new(false),
            asked: watch::Sender::new(None),
            stdin_closed: watch::Sender::new(false),
            memory_limit: MemoryLimit::default(),
        });
        (StopHandle(Arc::clone(&shared)), Stop(shared))
    }

    /// From now on the guest ends by itself when asked.
    pub(crate) fn listen(&self) -> watch::Receiver<Option<Asked>> {
        *self.0.listening.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.asked()
    }

    /// Whether somebody has asked; by itself this does not make the guest one that listens.
    pub(crate) fn asked(&self) -> watch::Receiver<Option<Asked>> {
        self.0.asked.subscribe()
    }

    pub(crate) fn stdin_closed(&self) -> watch::Receiver<bool> {
        self.0.stdin_closed.subscribe()
    }

    pub(crate) fn memory_limit(&self) -> MemoryLimit {
        self.0.memory_limit.clone()
    }
}

impl StopHandle {
    /// Asks the guest to end within `grace`. Asking twice is asking once; the first grace period holds.
    pub fn stop(&self, grace: Duration) -> StopAction {
        let listening = self.0.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if !*listening {
            return StopAction::EndNow;
        }
        let now = Asked { at: Instant::now(), grace };
        self.0.asked.send_if_modified(|asked| asked.is_none().then(|| *asked = Some(now)).is_some());
        StopAction::Draining
    }

    /// Ends the guest's input after what can still be read from it: needed where its file has no end of its own, such
    /// as a fifo opened for reading and writing.
    pub fn close_stdin(&self) {
        self.0.stdin_closed.send_replace(true);
    }

    /// From now on the guest may have so many bytes in place of [`crate::World::memory_limit`]; `None` is without limit.
    /// What it has already is not taken away.
    pub fn set_memory_limit(&self, limit: Option<u64>) {
        self.0.memory_limit.set(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_does_not_listen_is_to_be_ended_at_once() {
        let (handle, _stop) = Stop::new();
        assert_eq!(handle.stop(Duration::from_secs(30)), StopAction::EndNow);
    }

    #[test]
    fn a_listening_guest_hears_the_first_grace_period_only() {
        let (handle, stop) = Stop::new();
        let asked = stop.listen();
        assert_eq!(handle.stop(Duration::from_secs(30)), StopAction::Draining);
        assert_eq!(handle.clone().stop(Duration::from_secs(1)), StopAction::Draining);
        assert_eq!(asked.borrow().map(|asked| asked.grace), Some(Duration::from_secs(30)));
    }

    #[test]
    fn the_grace_period_runs_out_and_is_never_less_than_nothing() {
        let at = Instant::now();
        let asked = Asked { at, grace: Duration::from_secs(30) };
        assert_eq!(asked.left(at + Duration::from_secs(10)), Duration::from_secs(20));
        assert_eq!(asked.left(at + Duration::from_secs(31)), Duration::ZERO);
    }
}
