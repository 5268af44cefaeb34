//! The Node object: registration, status, lease.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::AgentConfig;

/// What our Node object says beyond what the host tells.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    /// `--node-ip`: addresses to report, primary first. Empty: the default route's interface.
    pub ips: Vec<IpAddr>,
    /// `--hostname-override`.
    pub hostname: String,
    /// `--node-labels` over our defaults.
    pub labels: Vec<(String, String)>,
    /// `--register-with-taints`: set when the Node is created, never again.
    pub taints: Vec<Taint>,
    /// `--provider-id`.
    pub provider_id: Option<String>,
}

/// Our Node object: what the API server last said of it, for all parts to read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnNode {
    object: watch::Sender<Option<Arc<Node>>>,
}

impl OwnNode {
    /// Not registered yet.
    pub fn new(_config: &AgentConfig) -> Self {
        Self { object: watch::Sender::new(None) }
    }

    /// The Node as the API server has it; `None` until it is registered (or read, after a restart).
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.object.subscribe()
    }
}

/// Registers the node and keeps its status and lease until `shutdown`.
pub async fn keep(_node: OwnNode, _client: kube::Client, shutdown: CancellationToken) {
    shutdown.cancelled().await;
}
