//! What this process uses, under the names of every Prometheus client.

use std::fs;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// `/proc` counts in these.
const TICKS_PER_SECOND: f64 = 100.0;
/// Of memory, in `/proc/self/stat`.
const PAGE: f64 = 4096.0;

/// Of `/proc/self`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessUse {
    cpu_seconds: f64,
    resident_bytes: f64,
    /// Since the epoch.
    started_seconds: f64,
    open_files: f64,
}

impl ProcessUse {
    /// Now; what cannot be read is 0.
    pub fn measure() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let measured = Self::parse(&read("/proc/self/stat"), &read("/proc/stat"));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self { open_files: u32::try_from(open).map_or(0.0, f64::from), ..measured }
    }

    /// `proc_pid_stat(5)`: fields 14, 15 (times), 22 (start after boot), 24 (pages); `btime` of `/proc/stat`.
    fn parse(own: &str, system: &str) -> Self {
        // The program's name, in parentheses, may hold anything.
        let fields: Vec<f64> = own
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_ascii_whitespace()
            .map(|word| word.parse().unwrap_or(0.0))
            .collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
        let booted =
            system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok()).unwrap_or(0.0);
        Self {
            cpu_seconds: (field(14) + field(15)) / TICKS_PER_SECOND,
            resident_bytes: field(24) * PAGE,
            started_seconds: booted + field(22) / TICKS_PER_SECOND,
            open_files: 0.0,
        }
    }

    /// Adds it to what is told.
    pub fn register(self, registry: &mut Registry) {
        let cpu = Counter::<f64, AtomicU64>::default();
        cpu.inc_by(self.cpu_seconds);
        registry.register("process_cpu_seconds", "Total user and system CPU time spent in seconds", cpu);
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory size in bytes", self.resident_bytes),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds",
                self.started_seconds,
            ),
            ("process_open_fds", "Number of open file descriptors", self.open_files),
        ] {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_named_like_its_own_statistics_is_read_right() {
        let own = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 3 0 1000 9999 20 18446744073709551615";
        let expected =
            ProcessUse { cpu_seconds: 2.0, resident_bytes: 81920.0, started_seconds: 110.0, open_files: 0.0 };
        assert_eq!(ProcessUse::parse(own, "cpu 1\nbtime 100\n"), expected);
        assert_eq!(ProcessUse::parse("", ""), ProcessUse::default());
    }
}
