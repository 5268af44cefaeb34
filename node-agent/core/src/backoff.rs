//! Growing delays: for crash loops and image pulls (client-go: `util/flowcontrol/backoff.go`; KEP-4603).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How delays grow: `initial`, doubled each time, at most `cap`; forgotten when the thing went well for ten minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub initial: Duration,
    pub cap: Duration,
}

/// Crash loops and image pulls: 10 s to 300 s.
pub const KUBELET: Backoff = Backoff { initial: Duration::from_secs(10), cap: Duration::from_secs(300) };

/// Whatever the cap is (kubelet: `newCrashLoopBackOff`, `HasExpiredFunc`).
const FORGET: SignedDuration = SignedDuration::from_secs(600);

/// A delay in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    pub duration: Duration,
    /// When it was set: at the try that follows the failure before.
    pub set_at: Timestamp,
}

impl Backoff {
    /// The kubelet's with another cap: `crashLoopBackOff.maxContainerRestartPeriod`.
    pub fn capped_at(cap: Duration) -> Self {
        Self { initial: KUBELET.initial.min(cap), cap }
    }

    /// Until when a try has to wait after the failure at `failed_at`; `None`: it may be made now (also when no delay is in force).
    pub fn wait_until(&self, delay: Option<&Delay>, failed_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let delay = delay.filter(|delay| !Self::forgotten(delay, failed_at))?;
        let until = failed_at.saturating_add(delay.duration).unwrap_or(Timestamp::MAX);
        (now < until).then_some(until)
    }

    /// The delay in force after the try made `now`, which follows the failure at `failed_at`.
    pub fn next(&self, delay: Option<&Delay>, failed_at: Timestamp, now: Timestamp) -> Delay {
        let duration = match delay.filter(|delay| !Self::forgotten(delay, failed_at)) {
            Some(delay) => delay.duration.saturating_mul(2).min(self.cap),
            None => self.initial.min(self.cap),
        };
        Delay { duration, set_at: now }
    }

    fn forgotten(delay: &Delay, failed_at: Timestamp) -> bool {
        failed_at.duration_since(delay.set_at) > FORGET
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::at;

    #[test]
    fn delays_double_up_to_the_cap() {
        let mut delay = None;
        let mut seconds = Vec::new();
        for _ in 0..8 {
            let next = KUBELET.next(delay.as_ref(), at(0), at(0));
            seconds.push(next.duration.as_secs());
            delay = Some(next);
        }
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_node_may_have_a_lower_cap_and_then_begins_no_higher() {
        let seconds = |cap: u64| {
            let backoff = Backoff::capped_at(Duration::from_secs(cap));
            let mut delay = None;
            (0..4)
                .map(|_| delay.insert(backoff.next(delay.as_ref(), at(0), at(0))).duration.as_secs())
                .collect::<Vec<_>>()
        };
        assert_eq!(seconds(25), [10, 20, 25, 25]);
        assert_eq!(seconds(1), [1, 1, 1, 1]);
        assert_eq!(Backoff::capped_at(Duration::from_secs(300)), KUBELET);
    }

    #[test]
    fn a_failure_ten_minutes_after_the_last_try_begins_anew() {
        let delay = Delay { duration: KUBELET.cap, set_at: at(0) };
        assert_eq!(KUBELET.wait_until(Some(&delay), at(600), at(601)), Some(at(900)));
        assert_eq!(KUBELET.wait_until(Some(&delay), at(601), at(601)), None);
        assert_eq!(KUBELET.next(Some(&delay), at(601), at(602)).duration, KUBELET.initial);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_the_cap_and_always_ends(
            failures in prop::collection::vec((0_i64..2000, 0_i64..2000), 1..40)
        ) {
            let (mut now, mut delay) = (0, None);
            for (ran, late) in failures {
                let failed_at = now + ran;
                now = failed_at;
                if let Some(until) = KUBELET.wait_until(delay.as_ref(), at(failed_at), at(now)) {
                    let wait = until.duration_since(at(failed_at));
                    prop_assert!(wait <= jiff::SignedDuration::from_secs(300));
                    now = until.as_second() - at(0).as_second();
                    prop_assert_eq!(KUBELET.wait_until(delay.as_ref(), at(failed_at), at(now)), None);
                }
                now += late;
                let next = KUBELET.next(delay.as_ref(), at(failed_at), at(now));
                prop_assert!(next.duration >= KUBELET.initial && next.duration <= KUBELET.cap);
                delay = Some(next);
            }
        }
    }
}
