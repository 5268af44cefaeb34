//! What a cgroup has used: one form for v1 and v2, and the parsers that fill it.

/// Usage of a cgroup. A controller that the host lacks leaves its part at 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
}

/// Times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStats {
    pub usage_nanos: u64,
    pub user_nanos: u64,
    pub system_nanos: u64,
    /// Quota periods that passed, those in which it was held back, and for how long.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_nanos: u64,
}

/// Bytes, but for the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// All that is charged: anonymous memory, page cache, kernel memory.
    pub usage: u64,
    pub max_usage: u64,
    /// `None`: without limit.
    pub limit: Option<u64>,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    pub mapped_file: u64,
    pub inactive_file: u64,
    pub active_file: u64,
    pub inactive_anon: u64,
    pub active_anon: u64,
    pub swap: u64,
    /// Counters: all page faults (major ones included) and major ones.
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// Processes of this very cgroup that the kernel ended for want of memory.
    pub oom_kills: u64,
}

impl MemoryStats {
    /// What eviction and `kubectl top` go by: usage without the file pages that could be dropped.
    pub fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }

    /// What could still be had under the limit.
    pub fn available(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.working_set()))
    }
}

/// Tasks (threads) in the cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    pub current: u64,
    /// `None`: without limit.
    pub limit: Option<u64>,
}

/// v1 says "no limit" by a number near 2^63.
const V1_UNLIMITED: u64 = 1 << 62;

/// A file with one number, or `max`.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A limit: `max`, nothing, and v1's huge number are none.
pub(super) fn limit(text: &str) -> Option<u64> {
    number(text).filter(|value| *value < V1_UNLIMITED)
}

/// `key value` lines: the value of one key, 0 without it.
pub(super) fn field(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(number).unwrap_or(0)
}

impl CpuStats {
    /// v1: `cpuacct.usage`, `cpuacct.usage_user`, `cpuacct.usage_sys`, `cpu.stat`.
    pub(super) fn v1(usage: &str, user: &str, system: &str, cpu_stat: &str) -> Self {
        Self {
            usage_nanos: number(usage).unwrap_or(0),
            user_nanos: number(user).unwrap_or(0),
            system_nanos: number(system).unwrap_or(0),
            periods: field(cpu_stat, "nr_periods"),
            throttled_periods: field(cpu_stat, "nr_throttled"),
            throttled_nanos: field(cpu_stat, "throttled_time"),
        }
    }

    /// v2: `cpu.stat`, in microseconds.
    pub(super) fn v2(cpu_stat: &str) -> Self {
        let nanos = |key| field(cpu_stat, key).saturating_mul(1000);
        Self {
            usage_nanos: nanos("usage_usec"),
            user_nanos: nanos("user_usec"),
            system_nanos: nanos("system_usec"),
            periods: field(cpu_stat, "nr_periods"),
            throttled_periods: field(cpu_stat, "nr_throttled"),
            throttled_nanos: nanos("throttled_usec"),
        }
    }
}

impl MemoryStats {
    /// v1: the `total_` fields of `memory.stat` count children too.
    pub(super) fn v1(usage: &str, max_usage: &str, limit_text: &str, stat: &str, oom_control: &str) -> Self {
        Self {
            usage: number(usage).unwrap_or(0),
            max_usage: number(max_usage).unwrap_or(0),
            limit: limit(limit_text),
            rss: field(stat, "total_rss"),
            cache: field(stat, "total_cache"),
            mapped_file: field(stat, "total_mapped_file"),
            inactive_file: field(stat, "total_inactive_file"),
            active_file: field(stat, "total_active_file"),
            inactive_anon: field(stat, "total_inactive_anon"),
            active_anon: field(stat, "total_active_anon"),
            swap: field(stat, "total_swap"),
            page_faults: field(stat, "total_pgfault"),
            major_page_faults: field(stat, "total_pgmajfault"),
            oom_kills: field(oom_control, "oom_kill"),
        }
    }

    /// v2: `memory.current`, `memory.peak`, `memory.max`, `memory.stat`, `memory.swap.current`, `memory.events.local`.
    pub(super) fn v2(usage: &str, peak: &str, max: &str, stat: &str, swap: &str, events: &str) -> Self {
        Self {
            usage: number(usage).unwrap_or(0),
            max_usage: number(peak).unwrap_or(0),
            limit: limit(max),
            rss: field(stat, "anon"),
            cache: field(stat, "file"),
            mapped_file: field(stat, "file_mapped"),
            inactive_file: field(stat, "inactive_file"),
            active_file: field(stat, "active_file"),
            inactive_anon: field(stat, "inactive_anon"),
            active_anon: field(stat, "active_anon"),
            swap: number(swap).unwrap_or(0),
            page_faults: field(stat, "pgfault"),
            major_page_faults: field(stat, "pgmajfault"),
            oom_kills: field(events, "oom_kill"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_matched_whole() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), 3);
        assert_eq!(field(text, "missing"), 0);
        assert_eq!(field("oom_kill", "oom_kill"), 0);
        assert_eq!(field("oom_kill x", "oom_kill"), 0);
    }

    #[test]
    fn no_limit_is_none_in_both_versions() {
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit(""), None);
        assert_eq!(limit("1024\n"), Some(1024));
    }

    #[test]
    fn the_working_set_is_usage_without_inactive_file_pages() {
        let memory = MemoryStats { usage: 100, inactive_file: 30, limit: Some(150), ..MemoryStats::default() };
        assert_eq!((memory.working_set(), memory.available()), (70, Some(80)));
        let odd = MemoryStats { usage: 10, inactive_file: 30, ..MemoryStats::default() };
        assert_eq!((odd.working_set(), odd.available()), (0, None));
    }

    #[test]
    fn microseconds_become_nanoseconds() {
        let stats =
            CpuStats::v2("usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\nthrottled_usec 7\n");
        let expected = CpuStats {
            usage_nanos: 5000,
            user_nanos: 3000,
            system_nanos: 2000,
            periods: 9,
            throttled_periods: 4,
            throttled_nanos: 7000,
        };
        assert_eq!(stats, expected);
    }
}
