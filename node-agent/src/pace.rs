//! How often something may be done: a bucket of permissions that fills at a rate (client-go: `util/flowcontrol/throttle.go`).

use std::time::Duration;

use tokio::time::Instant;

/// A rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    /// Permissions that gather while none is asked for.
    pub burst: u32,
}

/// A bucket of permissions.
#[derive(Debug)]
pub(crate) struct Pace {
    /// `None`: as often as one likes.
    rate: Option<Rate>,
    left: f64,
    at: Instant,
}

impl Pace {
    /// A full bucket. A rate of none per second is no limit, as the kubelet has it.
    pub(crate) fn new(rate: Option<Rate>, now: Instant) -> Self {
        let rate = rate.filter(|rate| rate.per_second > 0).map(|rate| Rate { burst: rate.burst.max(1), ..rate });
        Self { rate, left: rate.map_or(0.0, |rate| f64::from(rate.burst)), at: now }
    }

    /// Takes one permission; gives the time at which it counts.
    pub(crate) fn take(&mut self, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        self.fill(rate, now);
        self.left -= 1.0;
        now + Duration::from_secs_f64((-self.left).max(0.0) / f64::from(rate.per_second))
    }

    /// Takes one permission if there is one now.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        self.fill(rate, now);
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = since.mul_add(f64::from(rate.per_second), self.left).min(f64::from(rate.burst));
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Option<Rate> = Some(Rate { per_second: 50, burst: 100 });

    #[test]
    fn a_hundred_go_at_once_and_then_fifty_each_second() {
        let start = Instant::now();
        let mut pace = Pace::new(EVENTS, start);
        let times: Vec<Duration> = (0..150).map(|_| pace.take(start) - start).collect();
        assert!(times[..100].iter().all(Duration::is_zero));
        assert_eq!(times[100].as_millis(), 20);
        assert_eq!(times[149].as_millis(), 1000);
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.take(later), later, "the burst comes back");
    }

    #[test]
    fn who_does_not_wait_is_refused_until_the_next_permission_is_there() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(Rate { per_second: 5, burst: 2 }), start);
        let after = |millis| start + Duration::from_millis(millis);
        let table = [(0, true), (0, true), (0, false), (199, false), (201, true), (201, false), (60_000, true)];
        for (millis, granted) in table {
            assert_eq!(pace.try_take(after(millis)), granted, "{millis} ms");
        }
    }

    #[test]
    fn no_rate_is_no_limit_and_a_rate_without_burst_still_moves() {
        let now = Instant::now();
        for rate in [None, Some(Rate { per_second: 0, burst: 3 })] {
            let mut pace = Pace::new(rate, now);
            assert!((0..1000).all(|_| pace.try_take(now) && pace.take(now) == now), "{rate:?}");
        }
        assert!(Pace::new(Some(Rate { per_second: 1, burst: 0 }), now).try_take(now));
    }
}
