//! Usage as containerd's protobuf metrics, both ways: the shim writes what the agent (or the kubelet) reads.

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::{Message, MessageField};
use protobuf::well_known_types::any::Any;

use crate::cgroup::{CpuStats, MemoryStats, PidsStats, Stats, Version};

/// Type URLs by which containerd knows the two forms.
pub const V1_TYPE: &str = "io.containerd.cgroups.v1.Metrics";
/// See [`V1_TYPE`].
pub const V2_TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// No limit, as the protobuf messages say it.
const UNLIMITED: u64 = u64::MAX;

/// Why metrics cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("metrics of unknown type {0:?}")]
    Type(String),
    #[error("decode metrics")]
    Decode(#[source] protobuf::Error),
}

/// For a `StatsResponse`.
pub fn to_any(version: Version, stats: &Stats) -> Any {
    let (type_url, bytes) = match version {
        Version::V1 => (V1_TYPE, to_v1(stats).write_to_bytes()),
        Version::V2 => (V2_TYPE, to_v2(stats).write_to_bytes()),
    };
    let mut any = Any::new();
    any.type_url = type_url.into();
    // Numbers only: writing them to memory cannot fail.
    any.value = bytes.unwrap_or_default();
    any
}

/// From a `StatsResponse`.
pub fn from_any(any: &Any) -> Result<Stats, MetricsError> {
    match any.type_url.rsplit('/').next() {
        Some(V1_TYPE) => v1::Metrics::parse_from_bytes(&any.value).map(|metrics| from_v1(&metrics)),
        Some(V2_TYPE) => v2::Metrics::parse_from_bytes(&any.value).map(|metrics| from_v2(&metrics)),
        _ => return Err(MetricsError::Type(any.type_url.clone())),
    }
    .map_err(MetricsError::Decode)
}

fn to_v1(stats: &Stats) -> v1::Metrics {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let usage = v1::CPUUsage {
        total: cpu.usage_nanos,
        user: cpu.user_nanos,
        kernel: cpu.system_nanos,
        ..v1::CPUUsage::default()
    };
    let throttling = v1::Throttle {
        periods: cpu.periods,
        throttled_periods: cpu.throttled_periods,
        throttled_time: cpu.throttled_nanos,
        ..v1::Throttle::default()
    };
    let cpu = v1::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..v1::CPUStat::default()
    };
    let entry = v1::MemoryEntry {
        usage: memory.usage,
        max: memory.max_usage,
        limit: memory.limit.unwrap_or(UNLIMITED),
        ..v1::MemoryEntry::default()
    };
    let oom = v1::MemoryOomControl { oom_kill: memory.oom_kills, ..v1::MemoryOomControl::default() };
    let swap = v1::MemoryEntry { usage: memory.usage.saturating_add(memory.swap), ..v1::MemoryEntry::default() };
    let memory = v1::MemoryStat {
        rss: memory.rss,
        cache: memory.cache,
        mapped_file: memory.mapped_file,
        pg_fault: memory.page_faults,
        pg_maj_fault: memory.major_page_faults,
        inactive_file: memory.inactive_file,
        active_file: memory.active_file,
        inactive_anon: memory.inactive_anon,
        active_anon: memory.active_anon,
        total_rss: memory.rss,
        total_cache: memory.cache,
        total_mapped_file: memory.mapped_file,
        total_pg_fault: memory.page_faults,
        total_pg_maj_fault: memory.major_page_faults,
        total_inactive_file: memory.inactive_file,
        total_active_file: memory.active_file,
        total_inactive_anon: memory.inactive_anon,
        total_active_anon: memory.active_anon,
        hierarchical_memory_limit: memory.limit.unwrap_or(UNLIMITED),
        usage: MessageField::some(entry),
        swap: MessageField::some(swap),
        ..v1::MemoryStat::default()
    };
    let pids =
        v1::PidsStat { current: stats.pids.current, limit: stats.pids.limit.unwrap_or(0), ..v1::PidsStat::default() };
    v1::Metrics {
        pids: MessageField::some(pids),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory),
        memory_oom_control: MessageField::some(oom),
        ..v1::Metrics::default()
    }
}

fn from_v1(metrics: &v1::Metrics) -> Stats {
    let (usage, throttling) = (&metrics.cpu.usage, &metrics.cpu.throttling);
    let memory = &metrics.memory;
    Stats {
        cpu: CpuStats {
            usage_nanos: usage.total,
            user_nanos: usage.user,
            system_nanos: usage.kernel,
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
            throttled_nanos: throttling.throttled_time,
        },
        memory: MemoryStats {
            usage: memory.usage.usage,
            max_usage: memory.usage.max,
            limit: Some(memory.usage.limit).filter(|limit| *limit != UNLIMITED),
            rss: memory.total_rss,
            cache: memory.total_cache,
            mapped_file: memory.total_mapped_file,
            inactive_file: memory.total_inactive_file,
            active_file: memory.total_active_file,
            inactive_anon: memory.total_inactive_anon,
            active_anon: memory.total_active_anon,
            swap: memory.swap.usage.saturating_sub(memory.usage.usage),
            page_faults: memory.total_pg_fault,
            major_page_faults: memory.total_pg_maj_fault,
            oom_kills: metrics.memory_oom_control.oom_kill,
        },
        pids: PidsStats { current: metrics.pids.current, limit: Some(metrics.pids.limit).filter(|limit| *limit != 0) },
    }
}

fn to_v2(stats: &Stats) -> v2::Metrics {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let cpu = v2::CPUStat {
        usage_usec: cpu.usage_nanos / 1000,
        user_usec: cpu.user_nanos / 1000,
        system_usec: cpu.system_nanos / 1000,
        nr_periods: cpu.periods,
        nr_throttled: cpu.throttled_periods,
        throttled_usec: cpu.throttled_nanos / 1000,
        ..v2::CPUStat::default()
    };
    let events = v2::MemoryEvents { oom_kill: memory.oom_kills, ..v2::MemoryEvents::default() };
    let memory = v2::MemoryStat {
        usage: memory.usage,
        max_usage: memory.max_usage,
        usage_limit: memory.limit.unwrap_or(UNLIMITED),
        anon: memory.rss,
        file: memory.cache,
        file_mapped: memory.mapped_file,
        inactive_file: memory.inactive_file,
        active_file: memory.active_file,
        inactive_anon: memory.inactive_anon,
        active_anon: memory.active_anon,
        swap_usage: memory.swap,
        pgfault: memory.page_faults,
        pgmajfault: memory.major_page_faults,
        ..v2::MemoryStat::default()
    };
    let pids =
        v2::PidsStat { current: stats.pids.current, limit: stats.pids.limit.unwrap_or(0), ..v2::PidsStat::default() };
    v2::Metrics {
        pids: MessageField::some(pids),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory),
        memory_events: MessageField::some(events),
        ..v2::Metrics::default()
    }
}

fn from_v2(metrics: &v2::Metrics) -> Stats {
    let (cpu, memory) = (&metrics.cpu, &metrics.memory);
    Stats {
        cpu: CpuStats {
            usage_nanos: cpu.usage_usec.saturating_mul(1000),
            user_nanos: cpu.user_usec.saturating_mul(1000),
            system_nanos: cpu.system_usec.saturating_mul(1000),
            periods: cpu.nr_periods,
            throttled_periods: cpu.nr_throttled,
            throttled_nanos: cpu.throttled_usec.saturating_mul(1000),
        },
        memory: MemoryStats {
            usage: memory.usage,
            max_usage: memory.max_usage,
            limit: Some(memory.usage_limit).filter(|limit| *limit != UNLIMITED),
            rss: memory.anon,
            cache: memory.file,
            mapped_file: memory.file_mapped,
            inactive_file: memory.inactive_file,
            active_file: memory.active_file,
            inactive_anon: memory.inactive_anon,
            active_anon: memory.active_anon,
            swap: memory.swap_usage,
            page_faults: memory.pgfault,
            major_page_faults: memory.pgmajfault,
            oom_kills: metrics.memory_events.oom_kill,
        },
        pids: PidsStats { current: metrics.pids.current, limit: Some(metrics.pids.limit).filter(|limit| *limit != 0) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(limit: Option<u64>) -> Stats {
        Stats {
            cpu: CpuStats {
                usage_nanos: 7_000,
                user_nanos: 4_000,
                system_nanos: 3_000,
                periods: 10,
                throttled_periods: 2,
                throttled_nanos: 5_000,
            },
            memory: MemoryStats {
                usage: 100,
                max_usage: 120,
                limit,
                rss: 60,
                cache: 40,
                mapped_file: 8,
                inactive_file: 30,
                active_file: 10,
                inactive_anon: 20,
                active_anon: 40,
                swap: 5,
                page_faults: 9,
                major_page_faults: 1,
                oom_kills: 2,
            },
            pids: PidsStats { current: 3, limit },
        }
    }

    #[test]
    fn what_the_shim_writes_the_agent_reads() {
        for version in [Version::V1, Version::V2] {
            for stats in [stats(Some(200)), stats(None)] {
                assert_eq!(from_any(&to_any(version, &stats)).expect("metrics"), stats, "{version:?}");
            }
        }
    }

    #[test]
    fn other_types_and_broken_bytes_are_refused() {
        let mut any = to_any(Version::V1, &Stats::default());
        any.value = vec![0xff];
        assert!(matches!(from_any(&any), Err(MetricsError::Decode(_))));
        any.type_url = "x.Metrics".into();
        assert!(matches!(from_any(&any), Err(MetricsError::Type(name)) if name == "x.Metrics"));
        any.type_url = format!("types.googleapis.com/{V2_TYPE}");
        any.value.clear();
        assert_eq!(from_any(&any).expect("empty metrics").pids, PidsStats::default());
    }
}
