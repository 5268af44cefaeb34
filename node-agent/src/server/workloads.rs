//! What the API asks of the pods. The agent's pods answer; tests answer for themselves.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use samara_shim_client::Shim;
use samara_shim_client::bundle::Bundle;

/// The node's pods, for reading.
pub trait Workloads: Send + Sync + 'static {
    /// All pods of this node, each with its newest status.
    fn pods(&self) -> Vec<Arc<Pod>>;

    /// One of them.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is_it = |pod: &Arc<Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        };
        self.pods().into_iter().find(is_it)
    }

    /// A container's running process; `None` when it does not run.
    fn process(&self, uid: &str, container: &str) -> Option<Process>;

    /// Whether pods are being looked after: the loop has gone round lately.
    fn healthy(&self) -> Result<(), String>;
}

/// A running container, and whom to speak to about it.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its front.
    pub shim: Shim,
    /// Its id there.
    pub id: String,
    /// Which start it is; names its log file.
    pub attempt: u32,
    /// Its files.
    pub bundle: Bundle,
    /// Its log, that of this start.
    pub log: PathBuf,
}
