//! The Node object, its lease, and when to post them (kubelet: `kubelet_node_status.go`, `nodestatus/setters.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus, NodeSystemInfo, Taint};

use crate::resources::ResourceList;

/// What the agent knows of its machine and its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    pub name: String,
    pub hostname: String,
    /// Primary first.
    pub addresses: Vec<IpAddr>,
    pub provider_id: Option<String>,
    pub capacity: ResourceList,
    /// Taken off capacity.
    pub reserved: ResourceList,
    pub system: NodeSystemInfo,
    /// Set at registration, beside hostname, os and arch.
    pub labels: BTreeMap<String, String>,
    /// `kubernetes.io/os`; `wasi` by default.
    pub os_label: String,
    /// `kubernetes.io/arch`; `wasm32` by default.
    pub arch_label: String,
    /// Set at registration only.
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    /// Port of the node's API.
    pub port: u16,
    pub images: Vec<NodeImage>,
    pub declared_features: Vec<String>,
    pub runtime_handlers: Vec<String>,
    pub health: Health,
}

/// One image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    pub names: Vec<String>,
    pub size: u64,
}

/// What becomes the conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Each: a reason why the node is not ready. Empty: Ready.
    pub not_ready: Vec<String>,
    pub memory_pressure: bool,
    pub disk_pressure: bool,
    pub pid_pressure: bool,
}

/// The object to create at registration, status included.
pub fn node(facts: &NodeFacts, now: Timestamp) -> Node {
    let _ = (facts, now);
    todo!("session 1")
}

/// What the labels and annotations of an existing Node lack; `None` when nothing.
pub fn reconcile(existing: &Node, facts: &NodeFacts) -> Option<BTreeMap<String, String>> {
    let _ = (existing, facts);
    todo!("session 1")
}

/// The status to post over `previous`: transition times of unchanged conditions and foreign conditions are kept.
pub fn node_status(facts: &NodeFacts, previous: &NodeStatus, now: Timestamp) -> NodeStatus {
    let _ = (facts, previous, now);
    todo!("session 1")
}

/// Whether to post: something changed beside heartbeat times, or `report_every` (5 min) passed since `posted_at`.
pub fn worth_posting(
    next: &NodeStatus,
    previous: &NodeStatus,
    posted_at: Option<Timestamp>,
    report_every: Duration,
    now: Timestamp,
) -> bool {
    let _ = (next, previous, posted_at, report_every, now);
    todo!("session 1")
}

/// The lease in `kube-node-lease`, renewed `now`; owned by the node when its UID is known.
pub fn lease(
    node_name: &str,
    node_uid: Option<&str>,
    existing: Option<&Lease>,
    duration_seconds: i32,
    now: Timestamp,
) -> Lease {
    let _ = (node_name, node_uid, existing, duration_seconds, now);
    todo!("session 1")
}
