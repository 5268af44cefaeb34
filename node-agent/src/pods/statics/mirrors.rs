//! Makes and deletes mirrors, side by side, each again after a while if it failed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use samara_core::statics::{MirrorAction, mirror_of};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::node::OwnNode;
use crate::pods::sources::{FullName, Sources};

/// Between tries that failed: doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A mirror that was made or deleted is soon told of by the watch; until then nothing more is done about it.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Requests under way, and those that wait.
pub(in crate::pods) struct Mirrors {
    client: Client,
    node: OwnNode,
    requests: JoinSet<(FullName, MirrorAction, kube::Result<()>)>,
    busy: BTreeMap<FullName, Busy>,
}

struct Busy {
    action: MirrorAction,
    failures: u32,
    /// `None`: the request is under way.
    until: Option<Instant>,
}

impl Mirrors {
    pub(in crate::pods) fn new(client: Client, node: OwnNode) -> Self {
        Self { client, node, requests: JoinSet::new(), busy: BTreeMap::new() }
    }

    /// Begins what is to be done and not under way.
    pub(in crate::pods) fn begin(&mut self, sources: &Sources, actions: Vec<(FullName, MirrorAction)>, now: Instant) {
        self.busy.retain(|name, busy| busy.until.is_none() || actions.iter().any(|(other, _)| other == name));
        for (name, action) in actions {
            let failures = match self.busy.get(&name) {
                Some(Busy { until: None, .. }) => continue,
                Some(Busy { until: Some(until), action: before, .. }) if *until > now && *before == action => continue,
                Some(busy) if busy.action == action => busy.failures,
                Some(_) | None => 0,
            };
            let Some(request) = self.request(sources, &name, &action) else { continue };
            self.busy.insert(name, Busy { action, failures, until: None });
            self.requests.spawn(request);
        }
    }

    fn request(
        &self,
        sources: &Sources,
        name: &FullName,
        action: &MirrorAction,
    ) -> Option<impl Future<Output = (FullName, MirrorAction, kube::Result<()>)> + Send + use<>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &name.0);
        let node = self.node.object();
        let node_uid = node.as_ref().and_then(|node| node.metadata.uid.as_deref());
        let mirror = match action {
            MirrorAction::Create => Some(mirror_of(sources.static_pod(name)?, self.node.name(), node_uid)?),
            MirrorAction::Keep | MirrorAction::Delete(_) => None,
        };
        let (name, action) = (name.clone(), action.clone());
        Some(async move {
            let done = match (&action, mirror) {
                (MirrorAction::Create, Some(mirror)) => api.create(&PostParams::default(), &mirror).await.map(drop),
                (MirrorAction::Delete(uid), _) => {
                    let this_one = Preconditions { uid: Some(uid.clone()), ..Preconditions::default() };
                    let at_once = DeleteParams::default().grace_period(0).preconditions(this_one);
                    api.delete(&name.1, &at_once).await.map(drop)
                }
                (MirrorAction::Create | MirrorAction::Keep, _) => Ok(()),
            };
            (name, action, done)
        })
    }

    /// Waits for the end of a request, or until one may be tried again. Cancel by dropping.
    pub(in crate::pods) async fn next(&mut self) {
        let until = self.busy.values().filter_map(|busy| busy.until).min();
        let again = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.requests.join_next() => match ended {
                Ok((name, action, done)) => self.ended(name, action, done),
                Err(error) => tracing::error!(%error, "a request about a mirror panicked"),
            },
            () = again => {}
        }
    }

    fn ended(&mut self, name: FullName, action: MirrorAction, done: kube::Result<()>) {
        let failures = self.busy.get(&name).map_or(0, |busy| busy.failures);
        let pod = format!("{}/{}", name.0, name.1);
        let (failures, wait) = match done {
            Ok(()) => {
                match &action {
                    MirrorAction::Create => info!(pod, "mirror made"),
                    MirrorAction::Delete(uid) => info!(pod, uid, "mirror deleted"),
                    MirrorAction::Keep => {}
                }
                (0, TOLD_WITHIN)
            }
            // Gone already, or another one has its name: the watch says which.
            Err(kube::Error::Api(status)) if matches!((&action, status.code), (MirrorAction::Delete(_), 404 | 409)) => {
                (0, TOLD_WITHIN)
            }
            Err(error) => {
                let wait = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(LAST_RETRY);
                if failures == 0 {
                    warn!(
                        pod,
                        error = &error as &dyn std::error::Error,
                        ?action,
                        "a static pod's mirror; trying again"
                    );
                }
                (failures + 1, wait)
            }
        };
        self.busy.insert(name, Busy { action, failures, until: Some(Instant::now() + wait) });
    }
}
