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
//!   tell:    status, unless the pod is about to become ready within 50 ms of its arrival
//! ```
//! # Guarantees
//! One task owns all that is known of the pod. Effects run side by side and are ended with the worker; what they look
//! after goes on. A pod's object is deleted only when nothing of it runs and its final status is told.
//!
//! # Caveats
//! The worker is a state machine of some hundred bytes: everything large lives in effects, which end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use samara_core::events;
use samara_core::pod::{
    ContainerState, Exit, KillContainer, KillReason, Life, ObservedPod, PodActions, PodState, StartContainer, Stopping,
    compute, status,
};
use samara_core::reasons::waiting;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, info};

use super::PodRef;
use super::adopt::Adopted;
use super::context::Context;
use super::dispatch::{ApiObject, Wish};
use super::happened::{Happened, Key, Started};
use super::sandbox::{self, Sandbox};
use super::start::{self, Start};
use super::stop::{self, Stop};
use super::table::{Cell, Running};
use super::{ending, logs};
use crate::probes::{self, Finding};
use crate::shims::{Ended, Record, Task};

/// A pod that becomes ready within this time of its arrival is told once.
const HOLD: Duration = Duration::from_millis(50);
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
    life: Life,
    observed: ObservedPod,
    /// What was told last, and what the rules go by.
    told: PodStatus,
    attempts: BTreeMap<Key, Attempt>,
    starting: BTreeMap<String, CancellationToken>,
    sandbox: SandboxState,
    backing_off: BTreeSet<String>,
    hold_until: Instant,
}

/// What the worker holds of an attempt that runs.
struct Attempt {
    task: Task,
    record: Record,
    /// Set once it is to end: when it is killed at the latest.
    deadline: Option<watch::Sender<Instant>>,
    probes: Option<AbortHandle>,
    stop: Option<AbortHandle>,
    /// What it is ended for.
    killed: Option<KillReason>,
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
        let mut observed = ObservedPod::new(now);
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
            life: Life::new(now),
            observed,
            told,
            attempts: BTreeMap::new(),
            starting: BTreeMap::new(),
            sandbox: SandboxState::None,
            backing_off: BTreeSet::new(),
            hold_until: Instant::now() + HOLD,
        };
        for (task, record) in adopted.attempts {
            worker.adopt(task, record);
        }
        worker
    }

    /// Until the pod is gone from the API server and from this node.
    pub(super) async fn run(mut self) {
        loop {
            let now = Timestamp::now();
            let actions = self.decide(now);
            self.carry_out(&actions, now);
            self.tell(&actions, now);
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

    // Do.

    fn carry_out(&mut self, actions: &PodActions, now: Timestamp) {
        if actions.make_sandbox || (!actions.finished && self.needs_sandbox_of_adopted()) {
            self.make_sandbox();
        }
        for kill in &actions.kill {
            self.stop(kill, now);
        }
        for (name, call_off) in &self.starting {
            if !actions.start.iter().any(|start| start.name == *name) {
                call_off.cancel();
            }
        }
        for start in &actions.start {
            self.start(start);
        }
        self.record_back_offs(&actions.backing_off);
        if actions.finished && self.starting.is_empty() {
            self.life.terminated(now);
            self.take_down();
        }
    }

    /// Its containers run, but nobody in this agent keeps its volumes yet.
    fn needs_sandbox_of_adopted(&self) -> bool {
        self.observed.sandbox.ready && matches!(self.sandbox, SandboxState::None)
    }

    fn make_sandbox(&mut self) {
        if !matches!(self.sandbox, SandboxState::None) {
            return;
        }
        let effect =
            sandbox::make_and_keep(self.context.clone(), self.pod_ref.clone(), self.wishes.clone(), self.sender.clone());
        let handle = self.spawn(effect);
        self.sandbox = SandboxState::Making(handle);
    }

    fn take_down(&mut self) {
        match std::mem::replace(&mut self.sandbox, SandboxState::TakingDown) {
            SandboxState::None => {}
            SandboxState::Making(keeper) | SandboxState::Ready(_, keeper) => keeper.abort(),
            kept @ (SandboxState::TakingDown | SandboxState::Down) => {
                self.sandbox = kept;
                return;
            }
        }
        let (context, pod_ref, sender) = (self.context.clone(), self.pod_ref.clone(), self.sender.clone());
        self.spawn(async move {
            sandbox::take_down(&context, &pod_ref).await;
            drop(sender.send(Happened::SandboxDown));
        });
    }

    fn start(&mut self, action: &StartContainer) {
        let SandboxState::Ready(sandbox, _) = &self.sandbox else { return };
        if self.starting.contains_key(&action.name) {
            return;
        }
        let call_off = CancellationToken::new();
        let request = Start {
            context: self.context.clone(),
            pod_ref: self.pod_ref.clone(),
            pod: self.pod.clone(),
            sandbox: sandbox.clone(),
            action: action.clone(),
            call_off: call_off.clone(),
        };
        self.starting.insert(action.name.clone(), call_off);
        let sender = self.sender.clone();
        self.spawn(async move { drop(sender.send(Box::pin(start::start(request)).await)) });
    }

    fn stop(&mut self, kill: &KillContainer, now: Timestamp) {
        let key = (kill.name.clone(), kill.attempt);
        let deadline = Instant::now() + kill.grace;
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        let first = attempt.deadline.is_none();
        let until = attempt.deadline.get_or_insert_with(|| watch::Sender::new(deadline));
        until.send_if_modified(|until| {
            let sooner = deadline < *until;
            *until = (*until).min(deadline);
            sooner
        });
        let until = until.subscribe();
        attempt.killed.get_or_insert(kill.reason);
        let task = attempt.task.clone();
        if let Some(running) = self.running_mut(&key) {
            running.1.stopping = Some(Stopping { since: now, grace: kill.grace });
        }
        if !first {
            return;
        }
        info!(container = kill.name, attempt = kill.attempt, reason = ?kill.reason, grace = ?kill.grace, "ending container");
        if kill.reason != KillReason::Leftover {
            self.record_container(&kill.name, events::killing(&kill.message));
        }
        let hook = container(&self.pod, &kill.name).filter(|_| kill.reason != KillReason::Leftover).cloned();
        let stop = Stop {
            context: self.context.clone(),
            pod_ref: self.pod_ref.clone(),
            pod: self.pod.clone(),
            pod_ip: self.observed.sandbox.pod_ips.first().copied(),
            container: hook,
            task,
            until,
        };
        let handle = self.spawn(Box::pin(stop::stop(stop)));
        if let Some(attempt) = self.attempts.get_mut(&key) {
            attempt.stop = Some(handle);
            if let Some(probes) = attempt.probes.take_if(|_| kill.reason == KillReason::PodTerminating) {
                probes.abort();
            }
        }
    }

    fn record_back_offs(&mut self, names: &[String]) {
        let names: BTreeSet<String> = names.iter().cloned().collect();
        for name in names.difference(&self.backing_off) {
            self.record_container(name, events::back_off_restart(name, &self.pod));
        }
        self.backing_off = names;
    }

    fn record_container(&self, name: &str, event: events::Event) {
        self.context.record_container(&self.pod_ref, &self.pod, name, event);
    }

    fn spawn(&mut self, effect: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.effects.spawn(effect.instrument(Span::current()))
    }

    // Tell.

    fn tell(&mut self, actions: &PodActions, now: Timestamp) {
        if self.object == ApiObject::Gone {
            return;
        }
        let down = matches!(self.sandbox, SandboxState::Down);
        if actions.finished && !down {
            return;
        }
        let status = status(&self.pod, &self.observed, &self.told, now);
        if status != self.told {
            if Instant::now() < self.hold_until && is_on_its_way(&status) {
                return;
            }
            debug!(phase = status.phase, "telling");
            self.cell.set_status(status.clone());
            self.context.status.tell(self.pod_ref.clone(), status.clone());
            self.told = status;
        }
        if down && self.pod.metadata.deletion_timestamp.is_some() {
            self.context.status.remove(self.pod_ref.clone());
        }
    }

    fn is_over(&self) -> bool {
        self.object == ApiObject::Gone && matches!(self.sandbox, SandboxState::Down)
    }

    fn forget(&self) {
        self.context.status.forget(self.pod_ref.clone());
        self.context.images.forget(&self.pod_ref.uid);
        logs::remove(&self.context.layout, &self.pod_ref);
        drop(std::fs::remove_dir_all(self.context.layout.pod_bundles(&self.pod_ref.uid)));
        info!("pod is gone");
    }

    // Observe.

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
        while self.effects.try_join_next().is_some() {}
    }

    fn take_wish(&mut self) {
        let wish = self.wishes.borrow_and_update().clone();
        if wish.pod.metadata.generation != self.pod.metadata.generation {
            self.observed.waiting.clear();
        }
        self.cell.set_pod(wish.pod.clone());
        self.pod = wish.pod;
        self.object = wish.object;
        if let Some(termination) = wish.termination {
            self.observed.termination.get_or_insert(termination);
        }
        if self.object == ApiObject::Gone {
            self.observed.termination.get_or_insert_with(|| gone(&self.pod));
        }
    }

    fn take(&mut self, happened: Happened) {
        match happened {
            Happened::SandboxReady(sandbox) => {
                self.observed.sandbox = sandbox.observed();
                if let SandboxState::Making(keeper) = &self.sandbox {
                    self.sandbox = SandboxState::Ready(sandbox, keeper.clone());
                }
            }
            Happened::SandboxDown => self.sandbox = SandboxState::Down,
            Happened::ObjectsChanged => self.observed.waiting.clear(),
            Happened::Started(started) => self.started(*started),
            Happened::NotStarted { name, waiting } => {
                self.starting.remove(&name);
                self.observed.waiting.insert(name, waiting);
            }
            Happened::CalledOff { name } => drop(self.starting.remove(&name)),
            Happened::Probed { key, finding } => self.probed(&key, finding),
            Happened::Ended { key, ended } => self.ended(&key, &ended),
        }
    }

    fn started(&mut self, started: Started) {
        let Started { task, record, delay } = started;
        self.starting.remove(&record.name);
        self.observed.waiting.remove(&record.name);
        match delay {
            Some(delay) => drop(self.observed.delays.insert(record.name.clone(), delay)),
            None => drop(self.observed.delays.remove(&record.name)),
        }
        self.forget_old_attempts(&record.name, record.attempt);
        self.look_after(task, record, probes::Begin::Fresh);
    }

    /// An attempt of an earlier agent.
    fn adopt(&mut self, task: Task, record: Record) {
        if record.ended.is_some() {
            self.publish(&task, &record);
            self.observed.containers.push(record.observed());
            return;
        }
        let told = self.told.container_statuses.iter().chain(&self.told.init_container_statuses).flatten();
        let told = told.into_iter().find(|told| told.name == record.name);
        let started = told.is_some_and(|told| told.started == Some(true));
        let ready = told.is_some_and(|told| told.ready);
        let (name, attempt) = (record.name.clone(), record.attempt);
        self.look_after(task, record, if started { probes::Begin::Adopted } else { probes::Begin::Fresh });
        if let Some((_, running)) = self.running_mut(&(name, attempt)) {
            running.started |= started;
            running.ready |= started && ready;
        }
    }

    /// Waits for its end, and probes it meanwhile.
    fn look_after(&mut self, task: Task, record: Record, begin: probes::Begin) {
        let key: Key = (record.name.clone(), record.attempt);
        self.observed.containers.push(record.observed());
        self.publish(&task, &record);
        let Some(container) = container(&self.pod, &record.name).cloned() else {
            self.follow(&key, &task, &record, None);
            self.attempts.insert(key, Attempt { task, record, deadline: None, probes: None, stop: None, killed: None });
            return;
        };
        self.follow(&key, &task, &record, Some(container.clone()));
        let plan = probes::Plan::of(&container, begin);
        if let Some((_, running)) = self.running_mut(&key) {
            running.started = plan.is_started();
            running.ready = plan.is_ready();
        }
        let probes = plan.is_any().then(|| {
            let subject = probes::Subject {
                context: self.context.clone(),
                pod_ref: self.pod_ref.clone(),
                pod: self.pod.clone(),
                container,
                pod_ip: self.observed.sandbox.pod_ips.first().copied(),
                task: task.clone(),
                started_at: record.started_at.unwrap_or_else(Timestamp::now),
            };
            let sender = self.sender.clone();
            let of = key.clone();
            let tell = move |finding| drop(sender.send(Happened::Probed { key: of.clone(), finding }));
            self.spawn(Box::pin(probes::run(subject, plan, tell)))
        });
        self.attempts.insert(key, Attempt { task, record, deadline: None, probes, stop: None, killed: None });
    }

    fn follow(&mut self, key: &Key, task: &Task, record: &Record, container: Option<Container>) {
        let follow = ending::Follow {
            layout: self.context.layout.clone(),
            pod_uid: self.pod_ref.uid.clone(),
            task: task.clone(),
            record: record.clone(),
            container,
        };
        let (sender, key) = (self.sender.clone(), key.clone());
        self.spawn(async move {
            let ended = ending::follow(follow).await;
            drop(sender.send(Happened::Ended { key, ended }));
        });
    }

    fn probed(&mut self, key: &Key, finding: Finding) {
        let Some((_, running)) = self.running_mut(key) else { return };
        match finding {
            Finding::Started => running.started = true,
            Finding::Ready => running.ready = true,
            Finding::NotReady => running.ready = false,
            Finding::Failed(failure) => running.failure = Some(failure),
        }
    }

    fn ended(&mut self, key: &Key, ended: &Ended) {
        let Some(attempt) = self.attempts.remove(key) else { return };
        attempt.probes.iter().chain(&attempt.stop).for_each(AbortHandle::abort);
        let record = Record { ended: Some(ended.clone()), ..attempt.record };
        info!(container = key.0, attempt = key.1, exit_code = ended.exit_code, oom = ended.oom_killed, "container ended");
        self.publish(&attempt.task, &record);
        if let Some(container) = self.observed.containers.iter_mut().find(|one| one.name == key.0 && one.attempt == key.1) {
            let exit = Exit { killed: attempt.killed, ..ended.to_exit(record.started_at) };
            container.state = ContainerState::Exited(exit);
        }
    }

    /// The newest attempt and the one before are told of; older ones are nobody's interest.
    fn forget_old_attempts(&mut self, name: &str, newest: u32) {
        let old = |attempt: u32| attempt + 1 < newest;
        for container in self.observed.containers.iter().filter(|one| one.name == name && old(one.attempt)) {
            let bundle = self.context.layout.bundle(&self.pod_ref.uid, name, container.attempt);
            drop(std::fs::remove_dir_all(bundle));
            let own = self.context.layout.container(&self.pod_ref.uid, name, container.attempt);
            drop(std::fs::remove_dir_all(own));
            logs::remove_attempt(&self.context.layout, &self.pod_ref, name, container.attempt, &container.id);
        }
        self.observed.containers.retain(|one| one.name != name || !old(one.attempt));
    }

    fn publish(&self, task: &Task, record: &Record) {
        let state = record.observed().state;
        let running = Running { task: task.clone(), attempt: record.attempt, log: record.log.clone(), state };
        self.cell.set_container(&record.name, running);
    }

    fn running_mut(&mut self, key: &Key) -> Option<(&str, &mut samara_core::pod::Running)> {
        let containers = self.observed.containers.iter_mut();
        containers.filter(|one| one.name == key.0 && one.attempt == key.1).find_map(|one| match &mut one.state {
            ContainerState::Running(running) => Some((one.id.as_str(), running)),
            ContainerState::Created | ContainerState::Exited(_) => None,
        })
    }
}

/// A container of the pod's spec.
pub(super) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// The object was deleted without us: the pod ends, within its own grace.
fn gone(pod: &Pod) -> samara_core::pod::Termination {
    let deletion = pod.metadata.deletion_grace_period_seconds;
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let grace = deletion.or(own).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30);
    samara_core::pod::Termination {
        reason: "",
        message: String::new(),
        requested_at: Timestamp::now(),
        grace: Some(Duration::from_secs(grace)),
    }
}

/// Nothing is wrong, and more is about to come: its status need not be told yet.
fn is_on_its_way(status: &PodStatus) -> bool {
    let usual = |reason: Option<&str>| {
        matches!(reason, None | Some(waiting::CONTAINER_CREATING | waiting::POD_INITIALIZING))
    };
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let mut statuses = statuses.into_iter().peekable();
    let terminal = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let reason = |one: &k8s_openapi::api::core::v1::ContainerStatus| {
        one.state.as_ref().and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.clone())
    };
    !terminal && !ready && statuses.peek().is_some() && statuses.all(|one| usual(reason(one).as_deref()))
}
