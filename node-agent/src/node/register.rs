//! Registration: until it succeeds, again and again.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{OwnNode, facts};

/// First wait; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(7);

/// One attempt that did not work.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error(transparent)]
    Host(#[from] super::HostError),
    #[error("creating the Node object")]
    Create(#[source] kube::Error),
    #[error("reading the existing Node object")]
    Get(#[source] kube::Error),
    #[error("adding labels to the existing Node object")]
    Label(#[source] kube::Error),
}

/// Creates our Node, or takes over the one that is there. Gives the object as the API server has it.
pub(super) async fn register(node: &OwnNode, nodes: &Api<Node>) -> Node {
    let mut wait = FIRST_WAIT;
    let mut told = String::new();
    loop {
        match attempt(node, nodes).await {
            Ok(object) => {
                tracing::info!(node = node.name(), "registered");
                return object;
            }
            Err(error) => {
                // The same trouble is told once, not every 7 s of an outage.
                let error = anyhow::Error::new(error);
                let now = format!("{error:#}");
                if told != now {
                    tracing::warn!(node = node.name(), error = %now, "cannot register yet; trying again");
                    told = now;
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn attempt(node: &OwnNode, nodes: &Api<Node>) -> Result<Node, RegisterError> {
    if !node.config().register {
        return nodes.get(node.name()).await.map_err(RegisterError::Get);
    }
    let facts = facts::gather(node, &node.reports().borrow().clone())?;
    let wanted = samara_core::node::node(&facts, Timestamp::now());
    match nodes.create(&PostParams::default(), &wanted).await {
        Ok(created) => return Ok(created),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(RegisterError::Create(error)),
    }
    let existing = nodes.get(node.name()).await.map_err(RegisterError::Get)?;
    match samara_core::node::reconcile(&existing, &facts) {
        None => Ok(existing),
        Some(labels) => {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            nodes.patch(node.name(), &PatchParams::default(), &patch).await.map_err(RegisterError::Label)
        }
    }
}
