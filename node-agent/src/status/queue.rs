//! What to send next: pure. Each pod has one wish at most, its newest, and one request under way at most.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use tokio::time::Instant;

use crate::pods::PodRef;

/// Requests under way at once.
const MOST: usize = 64;
/// Between tries that failed: doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Wishes, in the order in which pods first had them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pods: HashMap<Arc<str>, Entry>,
    ready: VecDeque<Arc<str>>,
    later: BTreeSet<(Instant, Arc<str>)>,
    under_way: usize,
}

#[derive(Debug)]
struct Entry {
    pod: PodRef,
    status: Option<PodStatus>,
    remove: bool,
    under_way: bool,
    failures: u32,
}

/// A request to make.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Patch(PodRef, Box<PodStatus>),
    /// Grace 0, and only this UID.
    Delete(PodRef),
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// The pod is not there any more, or another one has its name.
    Gone,
    Again,
}

impl Queue {
    /// The pod's status is now this; one that was not sent yet is forgotten.
    pub(super) fn tell(&mut self, pod: PodRef, status: PodStatus) {
        self.entry(pod).status = Some(status);
    }

    /// Delete the API object once its status is told.
    pub(super) fn remove(&mut self, pod: PodRef) {
        self.entry(pod).remove = true;
    }

    /// Nothing more is to be told of this pod.
    pub(super) fn forget(&mut self, uid: &str) {
        match self.pods.get_mut(uid) {
            Some(entry) if entry.under_way => (entry.status, entry.remove) = (None, false),
            Some(_) | None => drop(self.pods.remove(uid)),
        }
    }

    /// Pods that wait for a request or its end.
    pub(super) fn behind(&self) -> usize {
        self.pods.len()
    }

    /// The next request, if one may be made now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Request> {
        while let Some((at, uid)) = self.later.first().cloned() {
            if at > now {
                break;
            }
            self.later.pop_first();
            self.ready.push_back(uid);
        }
        if self.under_way >= MOST {
            return None;
        }
        while let Some(uid) = self.ready.pop_front() {
            let Some(entry) = self.pods.get_mut(&uid).filter(|entry| !entry.under_way) else { continue };
            let request = match (entry.status.clone(), entry.remove) {
                (Some(status), _) => Request::Patch(entry.pod.clone(), Box::new(status)),
                (None, true) => Request::Delete(entry.pod.clone()),
                (None, false) => {
                    self.pods.remove(&uid);
                    continue;
                }
            };
            entry.under_way = true;
            self.under_way += 1;
            return Some(request);
        }
        None
    }

    /// When [`Queue::next`] may have something that it has not now.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// A request ended.
    pub(super) fn done(&mut self, request: &Request, outcome: Outcome, now: Instant) {
        self.under_way -= 1;
        let (Request::Patch(pod, _) | Request::Delete(pod)) = request;
        let Some(entry) = self.pods.get_mut(&pod.uid) else { return };
        entry.under_way = false;
        match (outcome, request) {
            (Outcome::Gone, _) => (entry.status, entry.remove) = (None, false),
            (Outcome::Taken, Request::Patch(_, told)) => {
                entry.failures = 0;
                if entry.status.as_ref() == Some(told) {
                    entry.status = None;
                }
            }
            (Outcome::Taken, Request::Delete(_)) => entry.remove = false,
            (Outcome::Again, _) => {
                let delay = FIRST_RETRY.saturating_mul(1 << entry.failures.min(10)).min(LAST_RETRY);
                entry.failures += 1;
                self.later.insert((now + delay, pod.uid.clone()));
                return;
            }
        }
        if entry.status.is_none() && !entry.remove {
            self.pods.remove(&pod.uid);
        } else {
            self.ready.push_back(pod.uid.clone());
        }
    }

    fn entry(&mut self, pod: PodRef) -> &mut Entry {
        let uid = pod.uid.clone();
        self.pods.entry(uid.clone()).or_insert_with(|| {
            self.ready.push_back(uid);
            Entry { pod, status: None, remove: false, under_way: false, failures: 0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> PodRef {
        PodRef { uid: uid.into(), namespace: "default".into(), name: uid.into() }
    }

    fn status(phase: &str) -> PodStatus {
        PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() }
    }

    fn patch(uid: &str, phase: &str) -> Option<Request> {
        Some(Request::Patch(pod(uid), Box::new(status(phase))))
    }

    #[test]
    fn the_newest_status_wins_and_one_request_for_a_pod_is_under_way() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.tell(pod("a"), status("Pending"));
        queue.tell(pod("a"), status("Running"));
        queue.tell(pod("b"), status("Pending"));
        let first = queue.next(now).unwrap();
        assert_eq!(Some(first.clone()), patch("a", "Running"));
        assert_eq!(queue.next(now), patch("b", "Pending"));
        queue.tell(pod("a"), status("Succeeded"));
        assert_eq!(queue.next(now), None, "a's request is under way");
        queue.done(&first, Outcome::Taken, now);
        assert_eq!(queue.next(now), patch("a", "Succeeded"));
    }

    #[test]
    fn the_delete_comes_after_the_last_status_was_taken() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.remove(pod("a"));
        queue.tell(pod("a"), status("Failed"));
        let told = queue.next(now).unwrap();
        assert_eq!(queue.next(now), None);
        queue.done(&told, Outcome::Taken, now);
        let delete = queue.next(now).unwrap();
        assert_eq!(delete, Request::Delete(pod("a")));
        queue.done(&delete, Outcome::Taken, now);
        assert_eq!((queue.next(now), queue.behind()), (None, 0));
    }

    #[test]
    fn a_failure_is_tried_again_later_with_the_status_of_then() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.tell(pod("a"), status("Pending"));
        for delay in [100, 200, 400] {
            let request = queue.next(now).unwrap();
            queue.done(&request, Outcome::Again, now);
            assert_eq!(queue.next(now), None);
            assert_eq!(queue.wake_at(), Some(now + Duration::from_millis(delay)));
            now += Duration::from_millis(delay);
        }
        queue.tell(pod("a"), status("Running"));
        assert_eq!(queue.next(now), patch("a", "Running"));
    }

    #[test]
    fn a_pod_that_is_gone_is_told_no_more() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.tell(pod("a"), status("Pending"));
        queue.remove(pod("a"));
        let request = queue.next(now).unwrap();
        queue.done(&request, Outcome::Gone, now);
        assert_eq!((queue.next(now), queue.behind()), (None, 0));
        queue.tell(pod("b"), status("Pending"));
        queue.forget("b");
        assert_eq!((queue.next(now), queue.behind()), (None, 0));
    }

    #[test]
    fn no_more_than_the_limit_are_under_way() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for number in 0..MOST + 1 {
            queue.tell(pod(&number.to_string()), status("Pending"));
        }
        let requests: Vec<Request> = std::iter::from_fn(|| queue.next(now)).collect();
        assert_eq!(requests.len(), MOST);
        queue.done(&requests[0], Outcome::Taken, now);
        assert!(queue.next(now).is_some());
    }
}
