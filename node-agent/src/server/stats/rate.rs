//! Use per second, from two looks at a counter.

use std::time::Duration;

use tokio::time::Instant;

/// Looks closer together than this tell nothing of the rate.
const CLOSEST: Duration = Duration::from_secs(1);

/// A counter as it was, and how fast it grew until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    at: Instant,
    nanos: u64,
    pub(super) per_second: Option<u64>,
}

impl Sample {
    /// What to keep, and tell, after another look.
    pub(super) fn next(previous: Option<Self>, at: Instant, nanos: u64) -> Self {
        let Some(previous) = previous else { return Self { at, nanos, per_second: None } };
        let passed = at.duration_since(previous.at);
        if passed < CLOSEST {
            return previous;
        }
        let grown = u128::from(nanos.saturating_sub(previous.nanos));
        let per_second = grown * 1_000_000_000 / passed.as_nanos();
        Self { at, nanos, per_second: u64::try_from(per_second).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_time_between_two_looks() {
        let begin = Instant::now();
        let second = |seconds: u64| begin + Duration::from_secs(seconds);
        let first = Sample::next(None, begin, 100);
        assert_eq!(first.per_second, None);
        let next = Sample::next(Some(first), second(10), 5100);
        assert_eq!(next.per_second, Some(500));
        assert_eq!(Sample::next(Some(next), second(10) + Duration::from_millis(999), 9999), next, "too soon");
        assert_eq!(Sample::next(Some(next), second(12), 0).per_second, Some(0), "a counter that began anew");
    }
}
