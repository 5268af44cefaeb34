//! What the kernel says of memory and CPU.

use std::fs;

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
