//! The whole machine's CPU time, and since when it counts.

use std::io;

use jiff::Timestamp;

/// `/proc/stat` counts in these.
const TICKS_PER_SECOND: u64 = 100;

/// Of `/proc/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stat {
    /// Not idle, of all CPUs.
    pub(super) busy_nanos: u64,
    pub(super) booted_at: Option<Timestamp>,
}

pub(super) fn stat() -> io::Result<Stat> {
    Ok(parse(&std::fs::read_to_string("/proc/stat")?))
}

/// `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests' time is in user's already, and
/// time stolen was never ours.
fn parse(text: &str) -> Stat {
    let rest = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let ticks: Vec<u64> =
        rest("cpu").unwrap_or_default().split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let busy: u64 =
        ticks.iter().enumerate().filter(|(place, _)| [0, 1, 2, 5, 6].contains(place)).map(|(_, ticks)| ticks).sum();
    let booted = rest("btime").and_then(|seconds| seconds.trim().parse().ok());
    Stat {
        busy_nanos: busy.saturating_mul(1_000_000_000 / TICKS_PER_SECOND),
        booted_at: booted.and_then(|seconds| Timestamp::from_second(seconds).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_busy_time_counts() {
        let text = "cpu  1 2 3 1000 500 4 5 600 9 9\ncpu0 1 1 1 1\nbtime 100\n";
        let expected = Stat { busy_nanos: 150_000_000, booted_at: Some(Timestamp::from_second(100).expect("a time")) };
        assert_eq!(parse(text), expected);
        assert_eq!(parse("cpu  many\n"), Stat::default());
        assert_eq!(parse(""), Stat::default());
    }
}
