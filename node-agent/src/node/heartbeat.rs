//! The status: computed every 10 s and whenever a part reports; posted when it changed, at latest every 5 minutes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use samara_core::node::Pressures;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::{HostError, OwnNode, facts, patch};
use crate::events::Recorder;

/// Attempts for one status (kubelet: `nodeStatusUpdateRetry`).
const ATTEMPTS: u32 = 5;
/// Between them: long enough for a connection to come back, short enough for the 50 s after which a node is given up.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);
/// Reports come in bunches; one status tells them all.
const GATHER: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("reading the Node object")]
    Get(#[source] kube::Error),
    #[error("patching the Node's status")]
    Patch(#[source] kube::Error),
}

/// Keeps the status, for ever.
pub(super) async fn keep(node: &OwnNode, nodes: &Api<Node>, events: &Recorder) {
    let mut every = tokio::time::interval(node.config().status_update_every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reports = node.reports();
    let mut object = node.watch();
    let mut pod_cidr = None;
    let mut told = Told::default();
    loop {
        tokio::select! {
            _tick = every.tick() => {}
            Ok(()) = reports.changed() => {}
            () = cidr_changed(&mut object, &pod_cidr) => {}
        }
        tokio::time::sleep(GATHER).await;
        pod_cidr = cidr(object.borrow_and_update().as_deref());
        reports.mark_unchanged();
        post(node, nodes, events, &mut told).await;
    }
}

/// What is remembered from one status to the next.
#[derive(Debug, Default)]
struct Told {
    at: Option<Timestamp>,
    pressures: Pressures,
}

/// What the heartbeat waits for beside its own time: the control plane gives a CIDR after registration.
fn cidr(node: Option<&Node>) -> Option<String> {
    node?.spec.as_ref()?.pod_cidr.clone()
}

async fn cidr_changed(object: &mut watch::Receiver<Option<Arc<Node>>>, known: &Option<String>) {
    // The sender lives as long as the node's handle, which our caller holds.
    let _changed = object.wait_for(|object| cidr(object.as_deref()) != *known).await;
}

async fn post(node: &OwnNode, nodes: &Api<Node>, events: &Recorder, told: &mut Told) {
    for attempt in 0..ATTEMPTS {
        match try_post(node, nodes, events, attempt, told).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = %format!("{:#}", anyhow::Error::new(error)), attempt, "node status not posted")
            }
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

async fn try_post(
    node: &OwnNode,
    nodes: &Api<Node>,
    events: &Recorder,
    attempt: u32,
    told: &mut Told,
) -> Result<(), StatusError> {
    // The first attempt trusts what the watch saw; the others ask.
    let previous = match (attempt, node.object()) {
        (0, Some(object)) => object,
        _ => Arc::new(nodes.get(node.name()).await.map_err(StatusError::Get)?),
    };
    let reports = node.reports().borrow().clone();
    let mut facts = facts::gather(node, &reports)?;
    let now = Timestamp::now();
    facts.health = told.pressures.hold(facts.health, node.config().pressure_period, now);
    let old = previous.status.clone().unwrap_or_default();
    let new = samara_core::node::node_status(&facts, &old, now);
    if !samara_core::node::worth_posting(&new, &old, told.at, node.config().status_report_every, now) {
        return Ok(());
    }
    let started = Instant::now();
    let patch = Patch::Strategic(patch::status(&old, &new));
    let updated = nodes.patch_status(node.name(), &PatchParams::default(), &patch).await.map_err(StatusError::Patch)?;
    tracing::debug!(took_ms = started.elapsed().as_millis(), "node status posted");
    for event in samara_core::node::changes(node.name(), &old, &new) {
        events.record(node.reference(), event);
    }
    told.at = Some(now);
    node.observe_answer(updated);
    Ok(())
}
