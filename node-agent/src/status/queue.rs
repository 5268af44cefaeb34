//! What to send next: pure. Each pod has one wish at most, its newest, and one request under way at most.
//!
//! A status that only says that a pod is on its way goes when nothing else waits, one at a time: while a hundred pods start
//! at once each such patch would make all of them later, and most are overtaken by the status that says ready.

use std::collections::{BTreeSet, HashMap, VecDeque, hash_map};
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
    idle: VecDeque<Arc<str>>,
    /// Of the pod whose interim status is under way.
    idle_under_way: Option<Arc<str>>,
    later: BTreeSet<(Instant, Arc<str>)>,
    under_way: usize,
}

#[derive(Debug)]
struct Entry {
    pod: PodRef,
    status: Option<PodStatus>,
    urgency: Urgency,
    remove: bool,
    under_way: bool,
    failures: u32,
}

/// How soon somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// When nothing else is to be told: more is about to come.
    Idle,
    Now,
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
    pub(super) fn tell(&mut self, pod: PodRef, status: PodStatus, urgency: Urgency) {
        self.change(pod, urgency, |entry| entry.status = Some(status));
    }

    /// Delete the API object once its status is told.
    pub(super) fn remove(&mut self, pod: PodRef) {
        self.change(pod, Urgency::Now, |entry| entry.remove = true);
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
            self.enqueue(uid);
        }
        if self.under_way >= MOST {
            return None;
        }
        while let Some(uid) = self.pop() {
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
            if entry.urgency == Urgency::Idle {
                self.idle_under_way = Some(uid);
            }
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
        self.idle_under_way.take_if(|idle| *idle == pod.uid);
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
            self.enqueue(pod.uid.clone());
        }
    }

    /// Changes a pod's entry, which is put into its line. What was urgent once stays so until it is told.
    fn change(&mut self, pod: PodRef, urgency: Urgency, change: impl FnOnce(&mut Entry)) {
        let uid = pod.uid.clone();
        let new = || Entry { pod, status: None, urgency, remove: false, under_way: false, failures: 0 };
        let (entry, waits) = match self.pods.entry(uid.clone()) {
            hash_map::Entry::Vacant(place) => (place.insert(new()), false),
            hash_map::Entry::Occupied(place) => (place.into_mut(), true),
        };
        let hurried = (entry.urgency, urgency) == (Urgency::Idle, Urgency::Now);
        if hurried {
            entry.urgency = urgency;
        }
        change(entry);
        if hurried || !waits {
            self.line(urgency).push_back(uid);
        }
    }

    fn enqueue(&mut self, uid: Arc<str>) {
        let urgency = self.pods.get(&uid).map_or(Urgency::Now, |entry| entry.urgency);
        self.line(urgency).push_back(uid);
    }

    fn line(&mut self, urgency: Urgency) -> &mut VecDeque<Arc<str>> {
        match urgency {
            Urgency::Now => &mut self.ready,
            Urgency::Idle => &mut self.idle,
        }
    }

    fn pop(&mut self) -> Option<Arc<str>> {
        let idle = || if self.idle_under_way.is_some() { None } else { self.idle.pop_front() };
        self.ready.pop_front().or_else(idle)
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
        queue.tell(pod("a"), status("Pending"), Urgency::Now);
        queue.tell(pod("a"), status("Running"), Urgency::Now);
        queue.tell(pod("b"), status("Pending"), Urgency::Now);
        let first = queue.next(now).unwrap();
        assert_eq!(Some(first.clone()), patch("a", "Running"));
        assert_eq!(queue.next(now), patch("b", "Pending"));
        queue.tell(pod("a"), status("Succeeded"), Urgency::Now);
        assert_eq!(queue.next(now), None, "a's request is under way");
        queue.done(&first, Outcome::Taken, now);
        assert_eq!(queue.next(now), patch("a", "Succeeded"));
    }

    #[test]
    fn the_delete_comes_after_the_last_status_was_taken() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.remove(pod("a"));
        queue.tell(pod("a"), status("Failed"), Urgency::Now);
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
        queue.tell(pod("a"), status("Pending"), Urgency::Now);
        for delay in [100, 200, 400] {
            let request = queue.next(now).unwrap();
            queue.done(&request, Outcome::Again, now);
            assert_eq!(queue.next(now), None);
            assert_eq!(queue.wake_at(), Some(now + Duration::from_millis(delay)));
            now += Duration::from_millis(delay);
        }
        queue.tell(pod("a"), status("Running"), Urgency::Now);
        assert_eq!(queue.next(now), patch("a", "Running"));
    }

    #[test]
    fn a_pod_that_is_gone_is_told_no_more() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.tell(pod("a"), status("Pending"), Urgency::Now);
        queue.remove(pod("a"));
        let request = queue.next(now).unwrap();
        queue.done(&request, Outcome::Gone, now);
        assert_eq!((queue.next(now), queue.behind()), (None, 0));
        queue.tell(pod("b"), status("Pending"), Urgency::Now);
        queue.forget("b");
        assert_eq!((queue.next(now), queue.behind()), (None, 0));
    }

    #[test]
    fn no_more_than_the_limit_are_under_way() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for number in 0..MOST + 1 {
            queue.tell(pod(&number.to_string()), status("Pending"), Urgency::Now);
        }
        let requests: Vec<Request> = std::iter::from_fn(|| queue.next(now)).collect();
        assert_eq!(requests.len(), MOST);
        queue.done(&requests[0], Outcome::Taken, now);
        assert!(queue.next(now).is_some());
    }

    #[test]
    fn pods_on_their_way_are_told_one_by_one_when_nothing_else_waits() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for uid in ["a", "b", "c"] {
            queue.tell(pod(uid), status("Pending"), Urgency::Idle);
        }
        queue.tell(pod("d"), status("Running"), Urgency::Now);
        assert_eq!(queue.next(now), patch("d", "Running"));
        let first = queue.next(now).unwrap();
        assert_eq!(Some(first.clone()), patch("a", "Pending"));
        assert_eq!(queue.next(now), None, "one at a time");

        queue.tell(pod("b"), status("Running"), Urgency::Now);
        assert_eq!(queue.next(now), patch("b", "Running"), "overtaken by what matters");
        queue.tell(pod("a"), status("Running"), Urgency::Now);
        assert_eq!(queue.next(now), None, "a's is under way");
        queue.done(&first, Outcome::Taken, now);
        assert_eq!(queue.next(now), patch("a", "Running"));
        assert_eq!(queue.next(now), patch("c", "Pending"));
        assert_eq!(queue.next(now), None);
    }

    #[test]
    fn what_matters_stays_urgent_when_it_is_followed_by_what_does_not_and_when_it_failed() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.tell(pod("a"), status("Failed"), Urgency::Now);
        queue.tell(pod("a"), status("Pending"), Urgency::Idle);
        queue.tell(pod("b"), status("Pending"), Urgency::Idle);
        queue.tell(pod("c"), status("Pending"), Urgency::Idle);
        let request = queue.next(now).unwrap();
        assert_eq!(Some(request.clone()), patch("a", "Pending"));
        assert_eq!(queue.next(now), patch("b", "Pending"));
        queue.done(&request, Outcome::Again, now);
        now += LAST_RETRY;
        assert_eq!(queue.next(now), patch("a", "Pending"));
        assert_eq!(queue.next(now), None);
    }
}
