//! How much a container may say. Pure.
//!
//! A container's process is as untrusted as its guest: one that talks without end would keep the front, which serves
//! every pod of its group on one thread, from everything else.

use std::time::Duration;

use tokio::time::Instant;

use super::MAX_MESSAGE;

/// Bytes at once: the longest greeting, and as much again.
const BURST: u64 = 2 * MAX_MESSAGE as u64;

/// Bytes in a second after that: about five hundred messages.
const PER_SECOND: u64 = 32 << 10;

/// What is left of it.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    since: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Counts what was said, and gives how long the next word has to wait.
    pub(super) fn spend(&mut self, said: usize, now: Instant) -> Duration {
        let earned = now.duration_since(self.since).as_millis().saturating_mul(PER_SECOND.into()) / 1000;
        self.left = self.left.saturating_add(u64::try_from(earned).unwrap_or(BURST)).min(BURST);
        let said = said as u64;
        if said <= self.left {
            (self.left, self.since) = (self.left - said, now);
            return Duration::ZERO;
        }
        let wait = Duration::from_millis((said - self.left).saturating_mul(1000).div_ceil(PER_SECOND));
        // Earned until then, and spent.
        (self.left, self.since) = (0, now + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!(allowance.spend(BURST as usize, start), Duration::ZERO);
        assert_eq!(allowance.spend(PER_SECOND as usize, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(1);
        assert_eq!(allowance.spend(PER_SECOND as usize / 2, later), Duration::from_millis(500));
    }

    #[test]
    fn silence_earns_one_burst_and_no_more() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        allowance.spend(BURST as usize, start);
        let later = start + Duration::from_secs(1 << 30);
        assert_eq!(allowance.spend(BURST as usize, later), Duration::ZERO);
        assert_eq!(allowance.spend(PER_SECOND as usize, later), Duration::from_secs(1));
    }

    #[test]
    fn many_small_words_cost_what_one_large_one_does() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut now = start;
        for _ in 0..(BURST + 10 * PER_SECOND) / 64 {
            now += allowance.spend(64, now);
        }
        let took = now - start;
        assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(13), "{took:?}");
    }
}
