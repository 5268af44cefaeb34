//! What the kernel says of memory and CPU.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use samara_tests::cluster::Cluster;
use samara_tests::node::Node;
use samara_tests::site::cgroup;

/// Memory of the machine, and that part of it which is the control plane's and this program's, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    available: i64,
    control_plane: i64,
}

impl Memory {
    /// Now.
    pub(crate) fn now(cluster: &Cluster) -> Result<Self> {
        let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
        let available = line.split_whitespace().next().and_then(|word| word.parse().ok()).context("MemAvailable")?;
        let own = i32::try_from(std::process::id())?;
        let processes = cluster.processes().into_iter().map(|id| id.pid).chain([own]);
        Ok(Self { available, control_plane: processes.map(pss).sum() })
    }

    /// What others than the control plane took since then.
    pub(crate) fn taken_since(&self, before: &Self) -> i64 {
        (before.available - self.available) - (self.control_plane - before.control_plane)
    }
}

/// Proportional set size of a process in KiB; 0 if it is gone.
pub(crate) fn pss(pid: i32) -> i64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The agent's own processes: pid and what it is.
pub(crate) fn agents(cluster: &Cluster, node: &Node) -> Vec<(i32, &'static str)> {
    let leaf = format!("{}-agent", node.name());
    let dirs = cgroup::beneath(&cluster.site().cgroup()).into_iter().filter(|dir| dir.ends_with(&leaf));
    let members = dirs.flat_map(|dir| cgroup::members(&dir)).map(|id| (id.pid, role(id.pid)));
    members.collect()
}

/// CPU time so far of all that takes part in a shot, by what it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cpu(BTreeMap<String, Duration>);

impl Cpu {
    /// Now. What belongs to no process that still lives is "the rest": the kernel's own threads, and processes that ended.
    pub(crate) fn now() -> Result<Self> {
        let mut by_role: BTreeMap<String, Duration> = BTreeMap::new();
        let mut known = Duration::ZERO;
        for entry in fs::read_dir("/proc").context("read /proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Any process may end while we look.
            let (Some(role), Some(used)) = (taking_part(pid), on_cpu(pid)) else { continue };
            known += used;
            *by_role.entry(role).or_default() += used;
        }
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let words: Vec<u32> =
            text.lines().next().unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, -, -, irq, softirq: hundredths of a second.
        let busy: u32 = [0, 1, 2, 5, 6].into_iter().filter_map(|index| words.get(index)).sum();
        by_role.insert("the rest".into(), (Duration::from_millis(10) * busy).saturating_sub(known));
        Ok(Self(by_role))
    }

    /// What each has used since then.
    pub(crate) fn since(&self, before: &Self) -> BTreeMap<String, Duration> {
        let used = |(role, now): (&String, &Duration)| {
            (role.clone(), now.saturating_sub(before.0.get(role).copied().unwrap_or_default()))
        };
        self.0.iter().map(used).collect()
    }
}

/// What a process is: one of the node's, or a program by its name.
fn taking_part(pid: i32) -> Option<String> {
    let parent = stat(pid)?.split(' ').nth(1)?.parse().ok()?;
    Some(match role(pid) {
        "zygote" if role(parent) == "zygote" => "containers".into(),
        "other" => fs::read_link(format!("/proc/{pid}/exe")).ok()?.file_name()?.to_string_lossy().into_owned(),
        ours => ours.into(),
    })
}

/// The fields of `/proc/PID/stat` behind the name.
fn stat(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ").map(|(_, fields)| fields.to_owned())
}

/// CPU time of the threads that live, to the nanosecond: one container takes less than a clock tick.
fn on_cpu(pid: i32) -> Option<Duration> {
    let of = |task: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    Some(Duration::from_nanos(tasks.flatten().filter_map(of).sum()))
}

fn role(pid: i32) -> &'static str {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    match () {
        () if line.contains("zygote") => "zygote",
        () if line.contains(" front ") => "front",
        () if line.contains(" node ") => "agent",
        () => "other",
    }
}
