//! Growing delays: for crash loops and image pulls (client-go: `util/flowcontrol/backoff.go`; KEP-4603).

use std::time::Duration;

use jiff::Timestamp;

/// How delays grow: `initial`, doubled each time, at most `cap`; forgotten when the thing went well for `2 * cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub initial: Duration,
    pub cap: Duration,
}

/// Crash loops and image pulls: 10 s to 300 s.
pub const KUBELET: Backoff = Backoff { initial: Duration::from_secs(10), cap: Duration::from_secs(300) };

/// A delay in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    pub duration: Duration,
    /// When it was set: at the try that follows the failure before.
    pub set_at: Timestamp,
}

impl Backoff {
    /// Until when a try has to wait after the failure at `failed_at`; `None`: it may be made now (also when no delay is in force).
    pub fn wait_until(&self, delay: Option<&Delay>, failed_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let delay = delay.filter(|delay| !self.forgotten(delay, failed_at))?;
        let until = failed_at.saturating_add(delay.duration).unwrap_or(Timestamp::MAX);
        (now < until).then_some(until)
    }

    /// The delay in force after the try made `now`, which follows the failure at `failed_at`.
    pub fn next(&self, delay: Option<&Delay>, failed_at: Timestamp, now: Timestamp) -> Delay {
        let duration = match delay.filter(|delay| !self.forgotten(delay, failed_at)) {
            Some(delay) => delay.duration.saturating_mul(2).min(self.cap),
            None => self.initial.min(self.cap),
        };
        Delay { duration, set_at: now }
    }

    fn forgotten(&self, delay: &Delay, failed_at: Timestamp) -> bool {
        failed_at.duration_since(delay.set_at)
            > jiff::SignedDuration::try_from(self.cap * 2).unwrap_or(jiff::SignedDuration::MAX)
    }
}
