//! Who works on what: one worker for each pod, admission in order of arrival, and what an earlier agent left behind.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use samara_core::admission::{Claim, admit_beside};
use samara_core::pod::Termination;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use super::PodRef;
use super::adopt::{self, remove_orphan};
use super::context::Context;
use super::sources::{Arrival, FullName, Heard, Origin, full_name};
use super::table::{Cell, Pods};
use super::worker::Worker;
use crate::shims::{Adoptable, Record};

/// What a worker is to bring about. The newest is the only one that counts.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) pod: Arc<Pod>,
    pub(super) object: ApiObject,
    /// The API object that is told of it: its own, or a static pod's mirror, if there is one.
    pub(super) tell: Option<PodRef>,
    pub(super) termination: Option<Termination>,
}

/// Whether the API server still has the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiObject {
    There,
    Gone,
}

/// A wish of this node to end a pod.
#[derive(Debug, Clone)]
pub struct Evict {
    pub pod_uid: Arc<str>,
    pub termination: Termination,
}

/// Owns the table of workers.
pub(super) struct Dispatch {
    context: Arc<Context>,
    pods: Pods,
    entries: HashMap<Arc<str>, Entry>,
    workers: JoinSet<Arc<str>>,
    /// Not yet admitted, in order of arrival: the Node is not known.
    arrived: Vec<Arrival>,
    /// Pods that wait for an end: of the pod of the same name that an earlier manifest made, or of what the same pod was
    /// before its manifest went away and came back (kubelet: `restartRequested`).
    held: BTreeMap<FullName, Arrival>,
    /// Pods of earlier agents that are being removed.
    removing: HashSet<Arc<str>>,
    node: watch::Receiver<Option<Arc<Node>>>,
    adoptable: Adoptable,
}

struct Entry {
    pod_ref: PodRef,
    wish: watch::Sender<Wish>,
    cell: Arc<Cell>,
    /// What it takes of the node; nothing if it was rejected.
    claim: Option<Claim>,
}

impl Entry {
    fn is_ending_for_good(&self) -> bool {
        self.wish.borrow().object == ApiObject::Gone
    }
}

impl Dispatch {
    /// Reads what an earlier agent left.
    pub(super) fn new(context: Arc<Context>, pods: Pods) -> Self {
        let adoptable = crate::shims::adoptable(&context.layout.bundles()).unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "bundles of an earlier agent cannot be read");
            BTreeMap::new()
        });
        let node = context.node.watch();
        Self {
            context,
            pods,
            entries: HashMap::new(),
            workers: JoinSet::new(),
            arrived: Vec::new(),
            held: BTreeMap::new(),
            removing: HashSet::new(),
            node,
            adoptable,
        }
    }

    /// Runs until `shutdown`; the workers are dropped then, and what they look after goes on.
    pub(super) async fn run(mut self, mut changes: mpsc::Receiver<Heard>, shutdown: CancellationToken) {
        let mut evictions = self.pods.evictions();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(change) = changes.recv() => self.take(change),
                Some(evict) = evictions.recv() => self.evict(evict),
                Some(ended) = self.workers.join_next() => self.ended(ended),
                changed = self.node.changed(), if !self.arrived.is_empty() => match changed {
                    Ok(()) => self.admit_arrived(),
                    Err(_) => return,
                },
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Applied(arrival) => self.applied(arrival),
            Heard::Gone(pod_ref) => self.gone(&pod_ref.uid),
            Heard::Complete(there) => {
                let waiting = self.arrived.iter().chain(self.held.values()).map(|arrival| &arrival.pod_ref.uid);
                let known = self.entries.keys().chain(waiting);
                let missing: Vec<_> = known.filter(|uid| !there.contains(*uid)).cloned().collect();
                missing.iter().for_each(|uid| self.gone(uid));
                self.remove_orphans(&there);
            }
        }
    }

    fn applied(&mut self, arrival: Arrival) {
        let uid = &arrival.pod_ref.uid;
        // An object of the API server that is gone never comes back: whoever shows it once more has an old list.
        let comes_back = |entry: &Entry| arrival.origin == Origin::Manifest && entry.is_ending_for_good();
        if let Some(entry) = self.entries.get(uid).filter(|entry| !comes_back(entry)) {
            let Arrival { pod, tell, .. } = arrival;
            entry.wish.send_modify(|wish| (wish.pod, wish.tell) = (pod, tell));
            return;
        }
        if let Some(arrived) = self.arrived.iter_mut().find(|arrived| arrived.pod_ref.uid == *uid) {
            *arrived = arrival;
            return;
        }
        if self.entries.contains_key(uid) || self.removing.contains(uid) {
            self.held.insert(full_name(&arrival.pod_ref), arrival.anew());
            return;
        }
        if arrival.origin == Origin::Manifest && self.has_other_of(&arrival.pod_ref) {
            self.held.insert(full_name(&arrival.pod_ref), arrival);
            return;
        }
        let adopted = self.adoptable.remove(&**uid).unwrap_or_default();
        // What ran here, or has ended here, was admitted then.
        let pod = &arrival.pod;
        let admitted = !adopted.is_empty() || is_terminal(pod) || pod.metadata.deletion_timestamp.is_some();
        if admitted {
            self.begin(arrival, adopted, None);
        } else {
            self.arrived.push(arrival);
            self.admit_arrived();
        }
    }

    /// Whether a pod of the same name, of an earlier manifest, is still there (kubelet: `allowStaticPodStart`).
    fn has_other_of(&self, pod: &PodRef) -> bool {
        let name = full_name(pod);
        self.entries.values().any(|entry| full_name(&entry.pod_ref) == name && entry.pod_ref.uid != pod.uid)
    }

    fn admit_arrived(&mut self) {
        let Some(node) = self.node.borrow_and_update().clone() else { return };
        for arrival in std::mem::take(&mut self.arrived) {
            let active = self.entries.values().filter(|entry| entry.cell.is_active());
            let others = active.filter_map(|entry| entry.claim.as_ref());
            let rejection = admit_beside(&arrival.pod, &node, others).err().map(|rejection| {
                crate::metrics::agent().operations.rejected(rejection.reason);
                info!(pod = %arrival.pod_ref, reason = rejection.reason, message = rejection.message, "pod rejected");
                Termination {
                    reason: rejection.reason,
                    message: rejection.status_message(),
                    requested_at: Timestamp::now(),
                    grace: Some(Duration::ZERO),
                }
            });
            self.begin(arrival, Vec::new(), rejection);
        }
    }

    fn begin(&mut self, arrival: Arrival, adopted: Vec<(PathBuf, Record)>, termination: Option<Termination>) {
        let Arrival { pod_ref, pod, tell, origin: _ } = arrival;
        let cell = self.pods.add(pod_ref.clone(), pod.clone());
        let claim = termination.is_none().then(|| Claim::of(&pod));
        let (wish, wishes) = watch::channel(Wish { pod, object: ApiObject::There, tell, termination });
        let span = info_span!("pod", namespace = %pod_ref.namespace, name = %pod_ref.name, uid = %pod_ref.uid);
        let known_as = pod_ref.clone();
        let seen = std::time::Instant::now();
        let (context, worker_cell, spec) = (self.context.clone(), cell.clone(), cell.pod());
        let work = async move {
            let uid = pod_ref.uid.clone();
            let adopted = adopt::adopt(&context, &pod_ref, &spec, adopted).await;
            crate::metrics::agent().operations.worker_started(seen.elapsed());
            context.starts.dispatched(&pod_ref.uid);
            Box::pin(Worker::new(context, pod_ref, wishes, worker_cell, adopted).run()).await;
            uid
        };
        self.workers.spawn(work.instrument(span));
        self.entries.insert(known_as.uid.clone(), Entry { pod_ref: known_as, wish, cell, claim });
    }

    fn gone(&mut self, uid: &str) {
        self.arrived.retain(|arrived| &*arrived.pod_ref.uid != uid);
        self.held.retain(|_, held| &*held.pod_ref.uid != uid);
        if let Some(entry) = self.entries.get(uid) {
            entry.cell.set_gone();
            entry.wish.send_modify(|wish| wish.object = ApiObject::Gone);
        }
    }

    fn evict(&mut self, evict: Evict) {
        if let Some(entry) = self.entries.get(&evict.pod_uid) {
            entry.wish.send_modify(|wish| wish.termination = wish.termination.take().or(Some(evict.termination)));
        }
    }

    fn ended(&mut self, ended: Result<Arc<str>, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.pods.remove(&uid);
                self.entries.remove(&uid);
                self.removing.remove(&uid);
                // Those that still have to wait are held again.
                std::mem::take(&mut self.held).into_values().for_each(|arrival| self.applied(arrival));
            }
            // A worker that panicked is a bug; its pod goes on as it is, and is looked after again by the next agent.
            Err(error) => tracing::error!(%error, "a pod's worker ended by a panic"),
        }
    }

    /// Pods that were deleted while no agent was there.
    fn remove_orphans(&mut self, there: &HashSet<Arc<str>>) {
        let mut known: HashSet<Arc<str>> = self.entries.keys().cloned().collect();
        known.extend(there.iter().chain(&self.removing).cloned());
        for (uid, attempts) in std::mem::take(&mut self.adoptable) {
            if !there.contains(uid.as_str()) {
                info!(uid, attempts = attempts.len(), "removing what is left of a pod that is gone");
                let uid: Arc<str> = uid.into();
                known.insert(uid.clone());
                self.removing.insert(uid.clone());
                self.workers.spawn(remove_orphan(self.context.clone(), uid, attempts));
            }
        }
        adopt::remove_leftovers(&self.context, &known);
        self.context.shims.retire_all_but(&known);
    }
}

fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
