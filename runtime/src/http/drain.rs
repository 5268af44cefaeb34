//! How long a server that was asked to stop goes on accepting.
//!
//! Endpoints are withdrawn at the same time as a pod is told to stop, and clients learn of it later: until new
//! connections cease to come, each is still served, and told not to come again.

use std::time::Duration;

use tokio::time::Instant;

/// Without a new connection for this long, the news has spread.
const QUIET: Duration = Duration::from_secs(1);

/// The decision when to stop accepting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Farewell {
    latest: Instant,
    quiet_since: Instant,
}

impl Farewell {
    pub(super) fn begin(now: Instant, grace: Duration) -> Self {
        Self { latest: now + grace / 2, quiet_since: now }
    }

    /// A client came that had not heard.
    pub(super) fn came(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// When to close the listening sockets, if nobody comes until then.
    pub(super) fn close_at(&self) -> Instant {
        self.latest.min(self.quiet_since + QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_quiet_server_closes_after_one_second() {
        let start = Instant::now();
        let farewell = Farewell::begin(start, Duration::from_secs(30));
        assert_eq!(farewell.close_at(), at(start, 1.0));
    }

    #[test]
    fn late_clients_keep_it_open_until_half_the_grace_period() {
        let start = Instant::now();
        let mut farewell = Farewell::begin(start, Duration::from_secs(10));
        farewell.came(at(start, 2.5));
        assert_eq!(farewell.close_at(), at(start, 3.5));
        farewell.came(at(start, 4.5));
        assert_eq!(farewell.close_at(), at(start, 5.0));
    }

    #[test]
    fn without_grace_it_closes_at_once() {
        let start = Instant::now();
        assert_eq!(Farewell::begin(start, Duration::ZERO).close_at(), start);
    }
}
