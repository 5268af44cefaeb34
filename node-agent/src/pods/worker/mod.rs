//! One pod's life: observe, decide, do, tell, wait.
//!
//! ```text
//!            ┌────────────────────────────────────────────────────────────┐
//!            ▼                                                            │
//!   decide: compute(pod, observed, told, now) ── actions                  │
//!            │                                                            │
//!   do:      ├─ sandbox     ── SandboxReady ───────────────┐              │
//!            ├─ start       ── Started │ NotStarted ───────┤              │
//!            ├─ stop        ── (its attempt's) Ended ──────┼─▶ observe ───┘
//!            ├─ (probes)    ── Probed ─────────────────────┤
//!            └─ take down   ── SandboxDown ────────────────┘
//!            │
//!   tell:    status, unless the pod is about to become ready, soon after its arrival
//! ```
//! # Guarantees
//! One task owns all that is known of the pod. Effects run side by side and are ended with the worker; what they look
//! after goes on. A pod's object is deleted only when nothing of it runs and its final status is told.
//!
//! # Caveats
//! The worker is a state machine of some hundred bytes: everything large lives in effects, which end.

mod act;
mod take;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use samara_core::pod::{KillReason, Life, ObservedPod, PodActions, PodState, compute};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PodRef;
use super::adopt::Adopted;
use super::context::Context;
use super::dispatch::{ApiObject, Wish};
use super::happened::{Happened, Key};
use super::sandbox::Sandbox;
use super::table::Cell;
use crate::metrics;
use crate::shims::{Record, Task};

/// A pod that waits is looked at again at least so often.
const RESYNC: Duration = Duration::from_secs(60);

/// Looks after one pod.
pub(super) struct Worker {
    context: Arc<Context>,
    pod_ref: PodRef,
    wishes: watch::Receiver<Wish>,
    cell: Arc<Cell>,
    happened: mpsc::UnboundedReceiver<Happened>,
    sender: mpsc::UnboundedSender<Happened>,
    effects: JoinSet<()>,
    pod: Arc<Pod>,
    object: ApiObject,
    /// Whom to tell; nobody while a static pod has no mirror.
    tell: Option<PodRef>,
    /// Whoever is to be told now was told nothing yet.
    untold: bool,
    life: Life,
    observed: ObservedPod,
    /// What was told last, and what the rules go by.
    told: PodStatus,
    /// The API object has said what was told.
    read_back: bool,
    attempts: BTreeMap<Key, Attempt>,
    starting: BTreeMap<String, CancellationToken>,
    sandbox: SandboxState,
    backing_off: BTreeSet<String>,
    hold_until: Instant,
    removal: Removal,
}

/// What the worker holds of an attempt that runs.
struct Attempt {
    task: Task,
    record: Record,
    /// Looked after since.
    since: Instant,
    /// Set once it is to end: when it is killed at the latest.
    deadline: Option<watch::Sender<Instant>>,
    probes: Option<Probes>,
    stop: Option<AbortHandle>,
    /// What it is ended for.
    killed: Option<KillReason>,
}

/// What goes on about an attempt while it runs.
struct Probes {
    handle: AbortHandle,
    /// Leaves readiness alone.
    ending: CancellationToken,
}

/// Of the API object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removal {
    NotYet,
    Asked,
}

enum SandboxState {
    None,
    Making(AbortHandle),
    Ready(Arc<Sandbox>, AbortHandle),
    TakingDown,
    Down,
}

impl Worker {
    pub(super) fn new(
        context: Arc<Context>,
        pod_ref: PodRef,
        wishes: watch::Receiver<Wish>,
        cell: Arc<Cell>,
        adopted: Adopted,
    ) -> Self {
        let now = Timestamp::now();
        let (sender, happened) = mpsc::unbounded_channel();
        let wish = wishes.borrow().clone();
        let hold_until = Instant::now() + context.config.status_hold;
        let mut observed = ObservedPod::new(now);
        observed.restart_backoff = context.config.restart_backoff;
        observed.host_ips = context.node.addresses().to_vec();
        observed.termination = wish.termination;
        observed.sandbox = adopted.sandbox;
        let told = wish.pod.status.clone().unwrap_or_default();
        let mut worker = Self {
            context,
            pod_ref,
            wishes,
            cell,
            happened,
            sender,
            effects: JoinSet::new(),
            pod: wish.pod,
            object: wish.object,
            tell: wish.tell,
            untold: false,
            life: Life::new(now),
            observed,
            told,
            read_back: false,
            attempts: BTreeMap::new(),
            starting: BTreeMap::new(),
            sandbox: SandboxState::None,
            backing_off: BTreeSet::new(),
            hold_until,
            removal: Removal::NotYet,
        };
        for (task, record) in adopted.attempts {
            worker.adopt(task, record);
        }
        worker
    }

    /// Until the pod is gone from the API server and from this node.
    pub(super) async fn run(mut self) {
        loop {
            let (now, began) = (Timestamp::now(), Instant::now());
            let actions = self.decide(now);
            self.carry_out(&actions, now);
            self.tell(&actions, now);
            let kind = if self.life.state() == PodState::Syncing { "sync" } else { "kill" };
            metrics::agent().operations.round(kind, began.elapsed());
            if self.is_over() {
                break;
            }
            self.wait(&actions, now).await;
        }
        self.effects.shutdown().await;
        self.forget();
    }

    fn decide(&mut self, now: Timestamp) -> PodActions {
        self.observed.terminating_at = self.life.terminating_at();
        let actions = compute(&self.pod, &self.observed, &self.told, now);
        let ends = actions.finished
            || self.observed.termination.is_some()
            || self.pod.metadata.deletion_timestamp.is_some()
            || actions.kill.iter().any(|kill| kill.reason == KillReason::PodTerminating);
        if ends && self.life.state() == PodState::Syncing {
            self.life.terminate(now);
            self.observed.terminating_at = self.life.terminating_at();
            return compute(&self.pod, &self.observed, &self.told, now);
        }
        actions
    }

    async fn wait(&mut self, actions: &PodActions, now: Timestamp) {
        let until = actions.wake_at.map_or(RESYNC, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        // A moment more than the rules asked for, so that their time has come on a clock of whole nanoseconds.
        let mut until = Instant::now() + until.min(RESYNC) + Duration::from_millis(1);
        if Instant::now() < self.hold_until {
            until = until.min(self.hold_until);
        }
        tokio::select! {
            changed = self.wishes.changed() => match changed {
                Ok(()) => self.take_wish(),
                // The dispatcher is gone, and with it this worker, soon.
                Err(_) => std::future::pending().await,
            },
            Some(happened) = self.happened.recv() => self.take(happened),
            () = tokio::time::sleep_until(until) => {}
        }
        while let Ok(happened) = self.happened.try_recv() {
            self.take(happened);
        }
        while let Some(ended) = self.effects.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "an effect of this pod panicked");
            }
        }
    }
}

/// A container of the pod's spec.
pub(super) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}
