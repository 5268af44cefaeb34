//! The one watch on this node's pods. The field selector is obligatory: without it the Node authorizer refuses.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::PodRef;
use crate::starts::Starts;

/// Between tries that failed: doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// What a source of pods says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A pod is there, or has changed.
    Applied(PodRef, Arc<Pod>),
    /// A pod's object is gone.
    Gone(PodRef),
    /// All pods that there are have been told; there are no others.
    Complete(HashSet<Arc<str>>),
}

/// Follows the pods until `shutdown`, over any number of broken connections.
pub(super) async fn watch(
    client: Client,
    node: String,
    changes: mpsc::Sender<Change>,
    starts: Starts,
    shutdown: CancellationToken,
) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = Box::pin(watcher(Api::<Pod>::all(client), config));
    let mut listed = HashSet::new();
    let mut delay = FIRST_RETRY;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.try_next() => event,
        };
        match event {
            Ok(Some(event)) => {
                delay = FIRST_RETRY;
                let change = change(event, &mut listed);
                if let Some(Change::Applied(pod_ref, pod)) = &change
                    && pod.status.as_ref().is_none_or(|status| status.phase.as_deref() == Some("Pending"))
                {
                    starts.seen(pod_ref);
                }
                if let Some(change) = change
                    && changes.send(change).await.is_err()
                {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "pods are not followed; trying again");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
                delay = (delay * 2).min(LAST_RETRY);
            }
        }
    }
}

fn change(event: Event<Pod>, listed: &mut HashSet<Arc<str>>) -> Option<Change> {
    let applied = |mut pod: Pod| {
        pod.metadata.managed_fields = None;
        Some((PodRef::of(&pod)?, Arc::new(pod)))
    };
    match event {
        Event::Init => {
            listed.clear();
            None
        }
        Event::InitApply(pod) => applied(pod).map(|(pod_ref, pod)| {
            listed.insert(pod_ref.uid.clone());
            Change::Applied(pod_ref, pod)
        }),
        Event::InitDone => Some(Change::Complete(std::mem::take(listed))),
        Event::Apply(pod) => applied(pod).map(|(pod_ref, pod)| Change::Applied(pod_ref, pod)),
        Event::Delete(pod) => PodRef::of(&pod).map(Change::Gone),
    }
}
