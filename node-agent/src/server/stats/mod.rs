//! What node and pods use: `/stats/summary`, `/metrics/resource` and `/metrics/cadvisor`.
//!
//! `meter` measures, from cgroups, `/proc` and directories; `summary`, `resource` and `cadvisor` write down what was measured.

mod cadvisor;
mod host;
mod meter;
mod rate;
mod resource;
mod summary;
mod usage;

pub use meter::Meter;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;

use samara_shim_client::cgroup::Stats;

use self::usage::Usage;
use super::Parts;
use super::reply::{self, refuse};

/// `/stats/summary` (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`).
pub(super) async fn summary(State(parts): State<Arc<Parts>>, RawQuery(query): RawQuery) -> Response {
    let only = super::logs::query::form(&query.unwrap_or_default());
    let only = only.iter().any(|(key, value)| key == "only_cpu_and_memory" && super::logs::query::boolean(value));
    let name = parts.node_name.clone();
    let extent = if only { Extent::CpuAndMemory } else { Extent::All };
    match measured(parts, extent).await {
        Ok(measured) => reply::json(summary::summary(&name, &measured, extent).to_string()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// `/metrics/resource`: what metrics-server reads.
pub(super) async fn resource(State(parts): State<Arc<Parts>>) -> Response {
    reply::metrics(resource::text(told_or_none(measured(parts, Extent::CpuAndMemory).await).as_ref()))
}

/// `/metrics/cadvisor`: what dashboards read.
pub(super) async fn cadvisor(State(parts): State<Arc<Parts>>) -> Response {
    reply::metrics(cadvisor::text(told_or_none(measured(parts, Extent::All).await).as_ref()))
}

fn told_or_none(measured: Result<Measured, String>) -> Option<Measured> {
    measured.inspect_err(|error| tracing::warn!(error, "measuring")).ok()
}

/// Many small files are read: not on a thread that others wait for.
async fn measured(parts: Arc<Parts>, extent: Extent) -> Result<Measured, String> {
    let measuring = tokio::task::spawn_blocking(move || parts.meter.measure(&*parts.workloads, extent));
    measuring.await.map_err(|error| error.to_string())?.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
}

/// How much is measured and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    All,
    /// `?only_cpu_and_memory=true`: no directory is walked.
    CpuAndMemory,
}

/// Everything, at one time.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    at: Timestamp,
    node: OfNode,
    /// Only those with a running container.
    pods: Vec<OfPod>,
}

#[derive(Debug, Clone, PartialEq)]
struct OfNode {
    booted_at: Option<Timestamp>,
    cpu: Cpu,
    memory: crate::node::Memory,
    disk: crate::node::Disk,
    pids: crate::node::Pids,
}

#[derive(Debug, Clone, PartialEq)]
struct OfPod {
    namespace: String,
    name: String,
    uid: String,
    started_at: Option<Timestamp>,
    used: Used,
    processes: u64,
    containers: Vec<OfContainer>,
    /// Below the hierarchies' roots.
    cgroup: String,
    stats: Stats,
    volumes: Vec<OfVolume>,
}

#[derive(Debug, Clone, PartialEq)]
struct OfVolume {
    name: String,
    /// Where it is.
    disk: crate::node::Disk,
    used: Usage,
    /// It is the node's disk that it takes, and not memory.
    on_disk: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct OfContainer {
    name: String,
    started_at: Option<Timestamp>,
    used: Used,
    id: String,
    image: String,
    stats: Stats,
    logs: Usage,
    /// Its writable layer; `None` if that was not asked for.
    rootfs: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cpu {
    /// In all.
    nanos: u64,
    /// Nanoseconds per second, lately; `None` at the first look.
    nano_cores: Option<u64>,
}

/// By a cgroup. A running one has used something, even where the kernel has not counted it yet: consumers take a 0 for
/// "no data" and drop the whole pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Used {
    cpu: Cpu,
    memory: u64,
    working_set: u64,
    rss: u64,
    /// Under the limit; `None` without one.
    available: Option<u64>,
    page_faults: u64,
    major_page_faults: u64,
}

#[cfg(test)]
mod fixtures {
    use super::*;

    pub(super) fn measured() -> Measured {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let used = |nanos, memory| Used {
            cpu: Cpu { nanos, nano_cores: Some(nanos / 1000) },
            memory: memory + 4096,
            working_set: memory,
            rss: memory / 2,
            available: Some(1 << 20),
            page_faults: 7,
            major_page_faults: 1,
        };
        let stats = |nanos, memory| {
            let mut stats = Stats::default();
            (stats.cpu.usage_nanos, stats.cpu.throttled_periods) = (nanos, 3);
            (stats.memory.usage, stats.memory.limit) = (memory, Some(65536));
            stats
        };
        Measured {
            at: at("2026-01-02T03:04:05Z"),
            node: OfNode {
                booted_at: Some(at("2026-01-01T00:00:00Z")),
                cpu: Cpu { nanos: 1_500_000_000, nano_cores: None },
                memory: crate::node::Memory { total: 1000, available: 400, ..Default::default() },
                disk: crate::node::Disk { total: 5000, available: 2000, inodes: 100, inodes_free: 60 },
                pids: crate::node::Pids { max: 100, used: 10 },
            },
            pods: vec![OfPod {
                namespace: "default".into(),
                name: "web".into(),
                uid: "uid-1".into(),
                started_at: Some(at("2026-01-02T03:00:00Z")),
                used: used(3_000_000, 16384),
                cgroup: "/samara/poduid-1".into(),
                stats: stats(3_000_000, 16384),
                volumes: vec![OfVolume {
                    name: "scratch".into(),
                    disk: crate::node::Disk { total: 5000, available: 2000, inodes: 100, inodes_free: 60 },
                    used: Usage { bytes: 30, inodes: 2 },
                    on_disk: true,
                }],
                processes: 1,
                containers: vec![OfContainer {
                    name: "app".into(),
                    started_at: Some(at("2026-01-02T03:00:01.5Z")),
                    used: used(2_000_000, 8192),
                    id: "abc".into(),
                    image: "registry/app:1".into(),
                    stats: stats(2_000_000, 8192),
                    logs: Usage { bytes: 42, inodes: 2 },
                    rootfs: Some(Usage { bytes: 100, inodes: 4 }),
                }],
            }],
        }
    }
}
