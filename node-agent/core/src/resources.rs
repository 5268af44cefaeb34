//! Requests, limits, QoS, and what they are to the kernel (kubelet: `cm/helpers_linux.go`, `qos/policy.go`; KEP-753, KEP-2837).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::LinuxResources;

use crate::quantity::{Amount, InvalidQuantity};

/// Resource name to amount.
pub type ResourceList = BTreeMap<String, Amount>;

/// A quantity in a pod's spec that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}")]
pub struct ResourceError {
    /// Field path, such as `spec.containers[0].resources.limits[memory]`.
    pub path: String,
    #[source]
    pub source: InvalidQuantity,
}

/// `status.qosClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// What the scheduler counts: containers, init containers and sidecars, pod-level requests, overhead.
pub fn pod_requests(pod: &Pod) -> Result<ResourceList, ResourceError> {
    let _ = pod;
    todo!("session 1")
}

/// As [`pod_requests`], for limits.
pub fn pod_limits(pod: &Pod) -> Result<ResourceList, ResourceError> {
    let _ = pod;
    todo!("session 1")
}

/// A class once told in the status is kept.
pub fn qos_class(pod: &Pod) -> QosClass {
    let _ = pod;
    todo!("session 1")
}

/// Cgroup settings of the pod's own cgroup.
pub fn pod_linux_resources(pod: &Pod) -> Result<LinuxResources, ResourceError> {
    let _ = pod;
    todo!("session 1")
}

/// Cgroup settings of one container. Memory requests do not matter here; no cpu limit means no quota.
pub fn container_linux_resources(
    pod: &Pod,
    container: &Container,
) -> Result<LinuxResources, ResourceError> {
    let _ = (pod, container);
    todo!("session 1")
}

/// `oom_score_adj` of one container's process, from the QoS class and its share of the node's memory (bytes).
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i32 {
    let _ = (pod, container, node_memory);
    todo!("session 1")
}
