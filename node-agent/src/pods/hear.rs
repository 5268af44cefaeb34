//! Brings the sources of pods together, and carries out what that means for mirrors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sources::{Heard, Origin, Sources};
use super::statics::Mirrors;
use super::table::Pods;
use super::watch::Change;
use crate::node::OwnNode;

/// How often it is asked whether a pod has ended whose mirror is to go.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Where changes come from; a source that is not there says nothing.
pub(super) struct Ears {
    pub(super) api: Option<mpsc::Receiver<Change>>,
    pub(super) manifests: Option<mpsc::Receiver<Change>>,
    /// What an earlier agent told of manifests' pods, by UID, where no API server has it.
    pub(super) told_before: BTreeMap<Arc<str>, PodStatus>,
    /// For mirrors, where there are both.
    pub(super) mirrors: Option<Mirrors>,
    /// A mirror needs the Node.
    pub(super) node: OwnNode,
    pub(super) pods: Pods,
}

/// Passes on what is heard until `shutdown`.
pub(super) async fn hear(mut ears: Ears, heard: mpsc::Sender<Heard>, shutdown: CancellationToken) {
    let expected = [(Origin::Api, ears.api.is_some()), (Origin::Manifest, ears.manifests.is_some())];
    let expected = expected.into_iter().filter(|(_, there)| *there).map(|(origin, _)| origin);
    let mut sources = Sources::new(expected, std::mem::take(&mut ears.told_before));
    let mut node = ears.node.watch();
    loop {
        if let Some(mirrors) = &mut ears.mirrors {
            let actions = sources.mirror_actions(|uid| ears.pods.is_known(uid));
            mirrors.begin(&sources, actions, Instant::now());
        }
        let waits = sources.waits();
        let told = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(change) = next(&mut ears.api) => sources.take(Origin::Api, change),
            Some(change) = next(&mut ears.manifests) => sources.take(Origin::Manifest, change),
            () = settled(&mut ears.mirrors) => None,
            Ok(()) = node.changed(), if ears.mirrors.is_some() => None,
            () = tokio::time::sleep(LOOKS_EVERY), if waits => None,
        };
        if let Some(told) = told
            && heard.send(told).await.is_err()
        {
            return;
        }
    }
}

async fn next(source: &mut Option<mpsc::Receiver<Change>>) -> Option<Change> {
    match source {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn settled(mirrors: &mut Option<Mirrors>) {
    match mirrors {
        Some(mirrors) => mirrors.next().await,
        None => std::future::pending().await,
    }
}
