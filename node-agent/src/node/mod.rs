//! The Node object: registration, status, lease.
//!
//! ```text
//!  config, host --+
//!  parts' reports +--> facts --(core: node_status)--> worth posting? --> PATCH nodes/<me>/status
//!  images --------+                                        ^
//!  watch of our own Node --> OwnNode (labels, podCIDR, allocatable: all parts read it)
//! ```
//!
//! Registration goes on until it succeeds; then status (on change, at latest every 5 min) and lease (every 10 s) are
//! kept by two loops that know nothing of each other, so a slow status never costs the lease.

mod addresses;
mod config;
mod facts;
mod heartbeat;
mod host;
mod lease;
mod own;
mod patch;
mod register;

pub use config::{EvictionHard, NodeConfig, Threshold};
pub use host::{Disk, HostError, Machine, Memory, Pids, disk_of};
pub use own::OwnNode;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::events::Recorder;

/// Why there can be no Node object.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The machine does not tell what a Node must say.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No address to be reached at.
    #[error(transparent)]
    Address(#[from] addresses::AddressError),
}

/// A node of no cluster: its object is what it says of itself, and only its own parts read it.
pub fn alone(node: &OwnNode) -> Result<(), NodeError> {
    let facts = facts::gather(node, &node.reports().borrow().clone())?;
    node.observe(Arc::new(samara_core::node::node(&facts, jiff::Timestamp::now())));
    Ok(())
}

/// Registers the node and keeps its status and lease until `shutdown`.
pub async fn keep(node: OwnNode, client: Client, events: Recorder, shutdown: CancellationToken) {
    let nodes = kube::Api::<Node>::all(client.clone());
    let work = async {
        events.record(node.reference(), samara_core::events::starting());
        let registered = register::register(&node, &nodes).await;
        // Each agent begins by telling how things stand, as the kubelet does; from then on what changes.
        let status = registered.status.clone().unwrap_or_default();
        for event in samara_core::node::changes(node.name(), &NodeStatus::default(), &status) {
            events.record(node.reference(), event);
        }
        node.observe(Arc::new(registered));
        let status = heartbeat::keep(&node, &nodes, &events);
        tokio::join!(own::watch(&node, &nodes), status, lease::keep(&node, client));
    };
    // Whoever runs next goes on where this stops: the Node stays Ready for the 40 s of its lease.
    let _stopped = shutdown.run_until_cancelled(Box::pin(work)).await;
}
