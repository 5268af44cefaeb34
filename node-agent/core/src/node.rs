//! The Node object, its lease, and when to post them (kubelet: `kubelet_node_status.go`, `nodestatus/setters.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};

use crate::quantity::Amount;
use crate::resources::{self, ResourceList, name};

mod changes;
mod pressure;

pub use changes::changes;
pub use pressure::Pressures;

/// Namespace of node leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Names told of one image.
const MAX_IMAGE_NAMES: usize = 5;

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
    /// So many of them are told, the largest; `None`: all.
    pub max_images: Option<usize>,
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

/// Labels that the node gives itself.
fn labels(facts: &NodeFacts) -> BTreeMap<String, String> {
    let mut labels = facts.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", &facts.hostname),
        ("kubernetes.io/os", &facts.os_label),
        ("kubernetes.io/arch", &facts.arch_label),
        ("beta.kubernetes.io/os", &facts.os_label),
        ("beta.kubernetes.io/arch", &facts.arch_label),
    ] {
        labels.insert(key.to_owned(), value.clone());
    }
    labels
}

/// The object to create at registration, status included.
pub fn node(facts: &NodeFacts, now: Timestamp) -> Node {
    Node {
        metadata: ObjectMeta { name: Some(facts.name.clone()), labels: Some(labels(facts)), ..ObjectMeta::default() },
        spec: Some(NodeSpec {
            provider_id: facts.provider_id.clone(),
            taints: Some(facts.taints.clone()).filter(|taints| !taints.is_empty()),
            unschedulable: facts.unschedulable.then_some(true),
            ..NodeSpec::default()
        }),
        status: Some(node_status(facts, &NodeStatus::default(), now)),
    }
}

/// Labels that an existing Node lacks or has otherwise; `None` when nothing is to be changed. Taints are not touched: a
/// node may set them at registration only.
pub fn reconcile(existing: &Node, facts: &NodeFacts) -> Option<BTreeMap<String, String>> {
    let empty = BTreeMap::new();
    let there = existing.metadata.labels.as_ref().unwrap_or(&empty);
    let mut wanted = labels(facts);
    wanted.retain(|key, value| there.get(key) != Some(value));
    (!wanted.is_empty()).then_some(wanted)
}

/// The status to post over `previous`: transition times of unchanged conditions are kept, and so are fields, conditions and
/// resources of others. What is empty is left out, as the API server leaves it out.
pub fn node_status(facts: &NodeFacts, previous: &NodeStatus, now: Timestamp) -> NodeStatus {
    let others: BTreeMap<_, _> = previous.capacity.clone().unwrap_or_default();
    let beside_others = |own: &ResourceList| {
        let mut all = others.clone();
        all.extend(resources::to_quantities(own));
        Some(all)
    };
    NodeStatus {
        capacity: beside_others(&facts.capacity),
        allocatable: beside_others(&allocatable(&facts.capacity, &facts.reserved)),
        conditions: Some(conditions(&facts.health, previous, now)),
        addresses: Some(addresses(facts)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(facts.port) }),
        }),
        node_info: Some(facts.system.clone()),
        images: Some(images(&facts.images, facts.max_images)).filter(|images| !images.is_empty()),
        declared_features: Some(sorted(&facts.declared_features)).filter(|features| !features.is_empty()),
        runtime_handlers: Some(
            sorted(&facts.runtime_handlers)
                .into_iter()
                .map(|name| NodeRuntimeHandler { name: Some(name), features: None })
                .collect::<Vec<_>>(),
        )
        .filter(|handlers| !handlers.is_empty()),
        ..previous.clone()
    }
}

/// Capacity less what is reserved, never less than nothing.
pub fn allocatable(capacity: &ResourceList, reserved: &ResourceList) -> ResourceList {
    capacity
        .iter()
        .map(|(name, amount)| {
            let left = *amount - reserved.get(name).copied().unwrap_or_default();
            (name.clone(), if name == name::PODS { *amount } else { left.max(Amount::ZERO) })
        })
        .collect()
}

fn addresses(facts: &NodeFacts) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let internal = facts.addresses.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain([address("Hostname", facts.hostname.clone())]).collect()
}

fn images(images: &[NodeImage], most: Option<usize>) -> Vec<ContainerImage> {
    let mut images: Vec<_> = images.iter().collect();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.names.cmp(&b.names)));
    images
        .into_iter()
        .take(most.unwrap_or(usize::MAX))
        .map(|image| ContainerImage {
            names: Some(image.names.iter().take(MAX_IMAGE_NAMES).cloned().collect()),
            size_bytes: Some(i64::try_from(image.size).unwrap_or(i64::MAX)),
        })
        .collect()
}

fn sorted(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort();
    list.dedup();
    list
}

fn conditions(health: &Health, previous: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let pressure = |kind: &str, pressed: bool, if_so: (&str, &str), if_not: (&str, &str)| {
        let (reason, message) = if pressed { if_so } else { if_not };
        condition(previous, kind, pressed, reason, message, now)
    };
    let mut own = vec![
        pressure(
            "MemoryPressure",
            health.memory_pressure,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            health.disk_pressure,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            health.pid_pressure,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
    ];
    own.push(match health.not_ready.as_slice() {
        [] => condition(previous, "Ready", true, "KubeletReady", "kubelet is posting ready status", now),
        [one] => condition(previous, "Ready", false, "KubeletNotReady", one, now),
        several => {
            let message = format!("[{}]", several.join(", "));
            condition(previous, "Ready", false, "KubeletNotReady", &message, now)
        }
    });
    let foreign = previous.conditions.iter().flatten();
    let foreign: Vec<_> =
        foreign.filter(|condition| !own.iter().any(|own| own.type_ == condition.type_)).cloned().collect();
    foreign.into_iter().chain(own).collect()
}

fn condition(
    previous: &NodeStatus,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let before = previous.conditions.iter().flatten().find(|before| before.type_ == kind && before.status == status);
    let now = whole_seconds(now);
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: before.and_then(|before| before.last_transition_time.clone()).or(Some(now)),
    }
}

fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Whether to post: something changed beside heartbeat times, or `report_every` (5 min) passed since `posted_at`.
pub fn worth_posting(
    next: &NodeStatus,
    previous: &NodeStatus,
    posted_at: Option<Timestamp>,
    report_every: Duration,
    now: Timestamp,
) -> bool {
    let due = posted_at.is_none_or(|at| now.duration_since(at).unsigned_abs() >= report_every);
    due || without_heartbeats(next) != without_heartbeats(previous)
}

fn without_heartbeats(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    let mut conditions = status.conditions.take().unwrap_or_default();
    for condition in &mut conditions {
        condition.last_heartbeat_time = None;
    }
    // Whoever wrote the others may have them in another order.
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    status.conditions = Some(conditions);
    status
}

/// The lease in `kube-node-lease`, renewed `now`; owned by the node when its UID is known.
pub fn lease(
    node_name: &str,
    node_uid: Option<&str>,
    existing: Option<&Lease>,
    duration_seconds: i32,
    now: Timestamp,
) -> Lease {
    let mut lease = existing.cloned().unwrap_or_default();
    lease.metadata.name = Some(node_name.to_owned());
    lease.metadata.namespace = Some(LEASE_NAMESPACE.to_owned());
    if let Some(uid) = node_uid {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node_name.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }]);
    }
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(node_name.to_owned()),
        lease_duration_seconds: Some(duration_seconds),
        renew_time: Some(MicroTime(now)),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

#[cfg(test)]
mod tests;
