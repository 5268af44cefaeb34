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
        Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_forbidden() => {}
        Err(error) => return Err(RegisterError::Create(error)),
    }
    // Somebody who may not make Nodes may have been given one.
    let existing = nodes.get(node.name()).await.map_err(RegisterError::Get)?;
    match samara_core::node::reconcile(&existing, &facts) {
        None => Ok(existing),
        Some(labels) => {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            nodes.patch(node.name(), &PatchParams::default(), &patch).await.map_err(RegisterError::Label)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response};
    use kube::Client;
    use kube::client::Body;

    use super::super::{Machine, NodeConfig};
    use super::*;

    /// Statuses of the answers to a create and to a get, and what was asked.
    fn answering(create: u16, get: u16) -> (Api<Node>, Arc<Mutex<Vec<Method>>>) {
        let asked = Arc::<Mutex<Vec<Method>>>::default();
        let seen = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            seen.lock().unwrap().push(request.method().clone());
            let status = match *request.method() {
                Method::POST => create,
                Method::GET => get,
                _ => 200,
            };
            let reason = match status {
                409 => "AlreadyExists",
                403 => "Forbidden",
                _ => "Other",
            };
            let answer = match status {
                200 => json!({ "metadata": { "name": "n1", "labels": { "colour": "blue" } } }),
                code => json!({ "kind": "Status", "code": code, "reason": reason, "message": "no" }),
            };
            let answer = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
            std::future::ready(answer)
        });
        (Api::all(Client::new(service, "default")), asked)
    }

    #[tokio::test]
    async fn a_node_that_exists_or_may_not_be_made_is_taken_over_and_its_labels_are_mended() {
        const TAKEN_OVER: &[Method] = &[Method::POST, Method::GET, Method::PATCH];
        let table: [(u16, u16, bool, &[Method]); 6] = [
            (200, 200, true, &[Method::POST]),
            (409, 200, true, TAKEN_OVER),
            (403, 200, true, TAKEN_OVER),
            (403, 404, false, &[Method::POST, Method::GET]),
            (403, 403, false, &[Method::POST, Method::GET]),
            (500, 200, false, &[Method::POST]),
        ];
        let config = NodeConfig { ips: vec!["127.0.0.1".parse().unwrap()], ..NodeConfig::default() };
        let dir = tempfile::tempdir().unwrap();
        let node = OwnNode::new("n1".to_owned(), config, Machine::new(dir.path()), None).await.unwrap();
        for (create, get, good, want) in table {
            let (nodes, asked) = answering(create, get);
            let registered = attempt(&node, &nodes).await;
            assert_eq!(registered.is_ok(), good, "{create}, {get}: {registered:?}");
            assert_eq!(*asked.lock().unwrap(), want, "{create}, {get}");
        }
    }
}
