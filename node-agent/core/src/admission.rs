//! May a pod run on this node? (kubelet: `lifecycle/predicate.go`, `kubelet.go` `canAdmitPod`).

use k8s_openapi::api::core::v1::{Node, Pod};

/// The pod is told Failed with these (`status.reason`, `status.message`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// One of [`crate::reasons::pod`].
    pub reason: &'static str,
    /// Without the prefix `Pod was rejected: `, which [`Rejection::status_message`] adds.
    pub message: String,
}

impl Rejection {
    /// `status.message`.
    pub fn status_message(&self) -> String {
        format!("Pod was rejected: {}", self.message)
    }
}

/// Only the kubelet's own reasons: a Failed pod is replaced by its controller at once. `others` are the pods that this
/// node has admitted and that are not in a terminal phase; `node` has labels, taints and allocatable.
pub fn admit<'a>(
    pod: &Pod,
    node: &Node,
    others: impl IntoIterator<Item = &'a Pod>,
) -> Result<(), Rejection> {
    let _ = (pod, node, others.into_iter().count());
    todo!("session 1")
}

/// Fields of the pod's spec that this node cannot honour: the pod's containers wait with `CreateContainerConfigError`
/// and this text, which names the fields. `None`: all can be honoured.
pub fn unsupported(pod: &Pod) -> Option<String> {
    let _ = pod;
    todo!("session 1")
}
