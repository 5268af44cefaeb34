//! OCI `linux.resources` as tables of which file gets which text. Pure; see the OCI runtime spec, `config-linux.md`,
//! "Control groups", and for v2 what runc makes of the same numbers.
//!
//! The device lists are not honoured: a guest reaches no device node (every mount is `nodev`, its seccomp filter has no
//! `mknod`), and v2 would need an eBPF program for the same.

use oci_spec::runtime::{LinuxBlockIo, LinuxResources};

use super::hierarchy::{Controller, Version};

/// `value` goes to `file` of the cgroup's directory for `controller`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub controller: Controller,
    pub file: String,
    pub value: String,
}

/// All settings, in the order in which they are written.
pub fn settings(version: Version, resources: &LinuxResources) -> Vec<Setting> {
    match version {
        Version::V1 => v1(resources),
        Version::V2 => v2(resources),
    }
}

/// Controllers beyond [`Controller::ALWAYS`] that these resources need.
pub fn further_controllers(version: Version, resources: &LinuxResources) -> Vec<Controller> {
    let mut controllers: Vec<_> = settings(version, resources).into_iter().map(|setting| setting.controller).collect();
    controllers.retain(|controller| !Controller::ALWAYS.contains(controller));
    controllers.dedup();
    controllers
}

fn v1(resources: &LinuxResources) -> Vec<Setting> {
    let mut table = Table::default();
    if let Some(memory) = resources.memory() {
        let c = Controller::Memory;
        table.add(c, "memory.limit_in_bytes", memory.limit().filter(|limit| *limit != 0));
        table.add(c, "memory.memsw.limit_in_bytes", memory.swap().filter(|swap| *swap != 0));
        table.add(c, "memory.soft_limit_in_bytes", memory.reservation().filter(|value| *value != 0));
        table.add(c, "memory.swappiness", memory.swappiness().filter(|value| *value <= 100));
        table.add(c, "memory.oom_control", memory.disable_oom_killer().filter(|off| *off).map(|_| 1));
    }
    if let Some(cpu) = resources.cpu() {
        let c = Controller::Cpu;
        table.add(c, "cpu.shares", cpu.shares().filter(|shares| *shares != 0));
        table.add(c, "cpu.cfs_period_us", cpu.period().filter(|period| *period != 0));
        table.add(c, "cpu.cfs_quota_us", cpu.quota().filter(|quota| *quota != 0));
        table.add(c, "cpu.cfs_burst_us", cpu.burst());
        table.add(c, "cpu.rt_period_us", cpu.realtime_period().filter(|period| *period != 0));
        table.add(c, "cpu.rt_runtime_us", cpu.realtime_runtime().filter(|runtime| *runtime != 0));
        table.add(c, "cpu.idle", cpu.idle());
        table.add(Controller::Cpuset, "cpuset.cpus", cpu.cpus().as_deref().filter(|cpus| !cpus.is_empty()));
        table.add(Controller::Cpuset, "cpuset.mems", cpu.mems().as_deref().filter(|mems| !mems.is_empty()));
    }
    table.add(Controller::Pids, "pids.max", pids(resources));
    if let Some(io) = resources.block_io() {
        table.add(Controller::Io, "blkio.weight", io.weight().filter(|weight| *weight != 0));
        for (file, _, device, rate) in throttles(io) {
            table.add(Controller::Io, file, Some(format!("{device} {rate}")));
        }
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size());
        table.add(Controller::Hugetlb, &file, Some(limit.limit()));
    }
    table.0
}

fn v2(resources: &LinuxResources) -> Vec<Setting> {
    let mut table = Table::default();
    if let Some(memory) = resources.memory() {
        let c = Controller::Memory;
        table.add(c, "memory.max", memory.limit().and_then(bytes));
        let swap = memory.swap().filter(|swap| *swap != 0).map(|swap| match (swap, memory.limit()) {
            (..0, _) => "max".to_owned(),
            // OCI counts memory and swap together, v2 swap alone.
            (swap, limit) => swap.saturating_sub(limit.unwrap_or(0).max(0)).max(0).to_string(),
        });
        table.add(c, "memory.swap.max", swap);
        table.add(c, "memory.low", memory.reservation().and_then(bytes));
    }
    if let Some(cpu) = resources.cpu() {
        let c = Controller::Cpu;
        table.add(c, "cpu.weight", cpu.shares().filter(|shares| *shares != 0).map(weight));
        if cpu.quota().is_some_and(|quota| quota != 0) || cpu.period().is_some_and(|period| period != 0) {
            let quota = cpu.quota().filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
            let period = cpu.period().filter(|period| *period != 0).unwrap_or(100_000);
            table.add(c, "cpu.max", Some(format!("{quota} {period}")));
        }
        table.add(c, "cpu.max.burst", cpu.burst());
        table.add(c, "cpu.idle", cpu.idle());
        table.add(Controller::Cpuset, "cpuset.cpus", cpu.cpus().as_deref().filter(|cpus| !cpus.is_empty()));
        table.add(Controller::Cpuset, "cpuset.mems", cpu.mems().as_deref().filter(|mems| !mems.is_empty()));
    }
    table.add(Controller::Pids, "pids.max", pids(resources));
    if let Some(io) = resources.block_io() {
        // 10..=1000 becomes 1..=10000.
        let weight = io
            .weight()
            .filter(|weight| *weight != 0)
            .map(|weight| 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990);
        table.add(Controller::Io, "io.weight", weight.map(|weight| format!("default {weight}")));
        for (_, key, device, rate) in throttles(io) {
            table.add(Controller::Io, "io.max", Some(format!("{device} {key}={rate}")));
        }
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        table.add(Controller::Hugetlb, &format!("hugetlb.{}.max", limit.page_size()), Some(limit.limit()));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let controller = unified_controller(file);
        table.add(controller, file, Some(value));
    }
    table.0
}

#[derive(Default)]
struct Table(Vec<Setting>);

impl Table {
    fn add(&mut self, controller: Controller, file: &str, value: Option<impl ToString>) {
        let row = value.map(|value| Setting { controller, file: file.into(), value: value.to_string() });
        self.0.extend(row);
    }
}

/// `unified` names files of any controller; in v2 they stand in one directory.
fn unified_controller(file: &str) -> Controller {
    let name = file.split('.').next().unwrap_or_default();
    let known = super::Cgroups::v2_names().find(|(_, v2)| *v2 == name);
    known.map_or(Controller::Memory, |(controller, _)| controller)
}

fn bytes(value: i64) -> Option<String> {
    match value {
        0 => None,
        ..0 => Some("max".into()),
        value => Some(value.to_string()),
    }
}

fn pids(resources: &LinuxResources) -> Option<String> {
    let limit = resources.pids().as_ref()?.limit();
    Some(if limit > 0 { limit.to_string() } else { "max".into() })
}

/// v1 file, v2 key, device and rate.
fn throttles(io: &LinuxBlockIo) -> impl Iterator<Item = (&'static str, &'static str, String, u64)> {
    let lists = [
        ("blkio.throttle.read_bps_device", "rbps", io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", "wbps", io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", "riops", io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", "wiops", io.throttle_write_iops_device()),
    ];
    lists.into_iter().flat_map(|(file, key, devices)| {
        devices
            .iter()
            .flatten()
            .map(move |device| (file, key, format!("{}:{}", device.major(), device.minor()), device.rate()))
    })
}

/// Shares 2..=262144 to weight 1..=10000 so that 2, 1024 and 262144 become 1, 100 and 10000: runc's and the kubelet's
/// curve (kubernetes/enhancements KEP-2254, revised).
pub fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    if shares == 2 {
        return 1;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).expect("resources")
    }

    fn rows(version: Version, json: &str) -> Vec<String> {
        let rows = settings(version, &resources(json));
        rows.into_iter().map(|row| format!("{}: {} = {}", row.controller.name(), row.file, row.value)).collect()
    }

    const KUBELET: &str = r#"{
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 67108864, "swap": 67108864},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 1024},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]
    }"#;

    #[test]
    fn a_kubelets_resources_on_v1() {
        assert_eq!(
            rows(Version::V1, KUBELET),
            [
                "memory: memory.limit_in_bytes = 67108864",
                "memory: memory.memsw.limit_in_bytes = 67108864",
                "cpu: cpu.shares = 512",
                "cpu: cpu.cfs_period_us = 100000",
                "cpu: cpu.cfs_quota_us = 50000",
                "pids: pids.max = 1024",
                "hugetlb: hugetlb.2MB.limit_in_bytes = 0",
            ]
        );
    }

    #[test]
    fn a_kubelets_resources_on_v2() {
        assert_eq!(
            rows(Version::V2, KUBELET),
            [
                "memory: memory.max = 67108864",
                "memory: memory.swap.max = 0",
                "cpu: cpu.weight = 59",
                "cpu: cpu.max = 50000 100000",
                "pids: pids.max = 1024",
                "hugetlb: hugetlb.2MB.max = 0",
            ]
        );
    }

    #[test]
    fn negative_means_without_limit_and_zero_means_not_said() {
        let json = r#"{"memory": {"limit": -1, "swap": -1, "reservation": 0}, "cpu": {"quota": -1, "shares": 0}, "pids": {"limit": -1}}"#;
        assert_eq!(
            rows(Version::V2, json),
            [
                "memory: memory.max = max",
                "memory: memory.swap.max = max",
                "cpu: cpu.max = max 100000",
                "pids: pids.max = max"
            ]
        );
        assert_eq!(
            rows(Version::V1, json),
            [
                "memory: memory.limit_in_bytes = -1",
                "memory: memory.memsw.limit_in_bytes = -1",
                "cpu: cpu.cfs_quota_us = -1",
                "pids: pids.max = max"
            ]
        );
        assert_eq!(rows(Version::V2, "{}"), Vec::<String>::new());
    }

    #[test]
    fn io_cpuset_and_unified_are_carried() {
        let json = r#"{
            "cpu": {"cpus": "0-1", "mems": "0"},
            "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
            "unified": {"memory.high": "1000", "cpu.uclamp.min": "10"}
        }"#;
        assert_eq!(
            rows(Version::V2, json),
            [
                "cpuset: cpuset.cpus = 0-1",
                "cpuset: cpuset.mems = 0",
                "blkio: io.weight = default 1",
                "blkio: io.max = 8:0 rbps=600",
                "cpu: cpu.uclamp.min = 10",
                "memory: memory.high = 1000"
            ]
        );
        assert_eq!(further_controllers(Version::V1, &resources(json)), [Controller::Cpuset, Controller::Io]);
        assert_eq!(further_controllers(Version::V1, &resources(KUBELET)), [Controller::Hugetlb]);
    }

    #[test]
    fn shares_become_weights_on_the_known_points() {
        let table = [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, expected) in table {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }
}
