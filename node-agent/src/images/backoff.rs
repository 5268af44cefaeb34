//! Back-off of pulls, by pod and image (kubelet: `images/image_manager.go`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use samara_core::backoff::{Delay, KUBELET};
use samara_core::reasons::waiting;
use samara_images::Retry;

use super::{Failure, SHOW_ERROR};

/// A registry that asks for a longer pause is asked again after this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What failed lately.
#[derive(Debug, Default)]
pub(super) struct Backoffs(Mutex<HashMap<Key, Failed>>);

/// Pod UID and image name.
type Key = (String, String);

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Pull,
    /// The image is here and cannot be run.
    Code,
}

#[derive(Debug)]
struct Failed {
    what: What,
    delay: Delay,
    at: Timestamp,
    /// What the registry asked for, if it is later than our own delay.
    not_before: Option<Timestamp>,
    message: String,
}

impl Failed {
    fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let own = KUBELET.wait_until(Some(&self.delay), self.at, now);
        own.max(self.not_before.filter(|time| now < *time))
    }
}

impl Backoffs {
    /// The failure in force, if the next try of the same has to wait.
    pub(super) fn waiting(&self, what: What, pod: &str, image: &str, now: Timestamp) -> Option<Failure> {
        let failed = self.lock();
        let failed = failed.get(&key(pod, image)).filter(|failed| failed.what == what)?;
        let until = failed.until(now)?;
        let message = format!("Back-off pulling image {image:?}: {}: {}", waiting::ERR_IMAGE_PULL, failed.message);
        Some(Failure::new(waiting::IMAGE_PULL_BACK_OFF, message, until))
    }

    /// A try failed with this message. What only another image can mend waits as long as it may, and who is asked for a pause makes it.
    pub(super) fn failed(
        &self,
        what: What,
        pod: &str,
        image: &str,
        message: &str,
        retry: Retry,
        now: Timestamp,
    ) -> Failure {
        let mut all = self.lock();
        let before = all.get(&key(pod, image)).map(|failed| failed.delay);
        let (delay, pause) = match retry {
            Retry::Never => (Delay { duration: KUBELET.cap, set_at: now }, None),
            Retry::Later(pause) => (KUBELET.next(before.as_ref(), now, now), pause),
            Retry::Now => (KUBELET.next(before.as_ref(), now, now), None),
        };
        let not_before = pause.and_then(|pause| now.saturating_add(pause.min(LONGEST_PAUSE)).ok());
        all.insert(key(pod, image), Failed { what, delay, at: now, not_before, message: message.to_owned() });
        Failure::new(waiting::ERR_IMAGE_PULL, message.to_owned(), now + SHOW_ERROR)
    }

    pub(super) fn succeeded(&self, pod: &str, image: &str) {
        self.lock().remove(&key(pod, image));
    }

    pub(super) fn forget(&self, pod: &str) {
        self.lock().retain(|(of, _), _| of != pod);
    }

    /// The end of the longest back-off that begins now: for what only a change can mend.
    pub(super) fn longest(now: Timestamp) -> Timestamp {
        now.saturating_add(KUBELET.cap).unwrap_or(now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Failed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(pod: &str, image: &str) -> Key {
    (pod.to_owned(), image.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn a_failed_pull_waits_ten_seconds_then_twenty_up_to_five_minutes() {
        let backoffs = Backoffs::default();
        let mut now = 0;
        for delay in [10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(backoffs.waiting(What::Pull, "pod", "image", at(now)), None);
            let failure = backoffs.failed(What::Pull, "pod", "image", "registry is down", Retry::Later(None), at(now));
            assert_eq!((failure.reason, failure.message.as_str()), ("ErrImagePull", "registry is down"));
            let waiting = backoffs.waiting(What::Pull, "pod", "image", at(now + 2)).unwrap();
            assert_eq!(waiting.reason, "ImagePullBackOff");
            assert_eq!(waiting.message, "Back-off pulling image \"image\": ErrImagePull: registry is down");
            assert_eq!(waiting.retry_at, at(now + delay));
            now += delay;
        }
    }

    #[test]
    fn a_registrys_own_pause_counts_if_it_is_longer_and_what_cannot_run_waits_longest() {
        let later = |seconds| Retry::Later(Some(Duration::from_secs(seconds)));
        for (retry, until) in
            [(later(3), 10), (later(100), 100), (later(1_000_000_000), 3600), (Retry::Now, 10), (Retry::Never, 300)]
        {
            let backoffs = Backoffs::default();
            backoffs.failed(What::Pull, "pod", "image", "x", retry, at(0));
            let waiting = |second| backoffs.waiting(What::Pull, "pod", "image", at(second)).map(|it| it.retry_at);
            assert_eq!(waiting(until - 1), Some(at(until)), "{retry:?}");
            assert_eq!(waiting(until), None, "{retry:?}");
        }
    }

    #[test]
    fn another_pod_or_image_does_not_wait_and_success_forgets() {
        let backoffs = Backoffs::default();
        backoffs.failed(What::Pull, "pod", "image", "x", Retry::Later(None), at(0));
        assert_eq!(backoffs.waiting(What::Pull, "other", "image", at(1)), None);
        assert_eq!(backoffs.waiting(What::Pull, "pod", "other", at(1)), None);
        backoffs.succeeded("pod", "image");
        assert_eq!(backoffs.waiting(What::Pull, "pod", "image", at(1)), None);
        backoffs.failed(What::Pull, "pod", "image", "x", Retry::Later(None), at(0));
        backoffs.forget("pod");
        assert_eq!(backoffs.waiting(What::Pull, "pod", "image", at(1)), None);
    }

    #[test]
    fn what_cannot_be_run_may_be_pulled_at_once_and_is_not_compiled_again_before_its_time() {
        let backoffs = Backoffs::default();
        backoffs.failed(What::Code, "pod", "image", "no _start", Retry::Later(None), at(0));
        assert_eq!(backoffs.waiting(What::Pull, "pod", "image", at(1)), None);
        assert!(backoffs.waiting(What::Code, "pod", "image", at(1)).is_some());
        assert_eq!(backoffs.waiting(What::Code, "pod", "image", at(10)), None);
    }
}
