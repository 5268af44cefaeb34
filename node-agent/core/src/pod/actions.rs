//! What is to be done with a pod now (kubelet: `kuberuntime_manager.go` `computePodActions`).
//!
//! ```text
//!                 ┌── it ends (deleted, decided, deadline, told terminal) ── kill: containers, then sidecars, last first
//! pod, observed ──┤
//!                 └── it goes on ── init containers in order, sidecars among them ── containers
//!                                        │ one failed for good                          │ all are done
//!                                        └──────────────── kill what runs ──────────────┘
//! ```

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

use super::end;
use super::observed::{ContainerKind, ContainerState, Failure, ObservedContainer, ObservedPod};
use super::restart::{self, Next, Why, is_sidecar};
use crate::backoff::Delay;
use crate::oci::spec_hash;

/// Least time between the request to end and SIGKILL, so that nothing is killed without having been asked.
pub const MINIMUM_GRACE: Duration = Duration::from_secs(2);

/// The next step. Carry out `kill` and `start` (of one container only a [`KillReason::Leftover`] is killed when it is
/// started, and before), then wait for a change or `wake_at` and ask again. Asking twice without a change gives the same answer, except that an attempt whose
/// [`super::Stopping`] is recorded is not named again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodActions {
    /// Make the sandbox (network, volumes, cgroup) before anything starts.
    pub make_sandbox: bool,
    /// At once and side by side.
    pub kill: Vec<KillContainer>,
    /// In this order; side by side is allowed.
    pub start: Vec<StartContainer>,
    /// Containers that wait out a restart delay: an event [`crate::events::back_off_restart`] for each.
    pub backing_off: Vec<String>,
    /// Ask again at this time at the latest.
    pub wake_at: Option<Timestamp>,
    /// Everything is over: no attempt runs and none will start. Take down the sandbox, then tell the last status.
    pub finished: bool,
}

/// Make and start one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartContainer {
    pub name: String,
    pub kind: ContainerKind,
    /// Number of the new attempt.
    pub attempt: u32,
    /// Record it in [`ObservedPod::delays`] when it started; `None`: remove what is recorded.
    pub delay: Option<Delay>,
}

/// End one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillContainer {
    pub name: String,
    pub id: String,
    pub attempt: u32,
    pub reason: KillReason,
    /// Text of the `Killing` event.
    pub message: String,
    /// Time to SIGKILL, preStop hook included.
    pub grace: Duration,
}

/// Why an attempt is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// The whole pod ends.
    PodTerminating,
    /// Its spec changed (image).
    SpecChanged,
    LivenessProbe,
    StartupProbe,
    PostStartHook,
    /// Made and never started, superseded by a newer attempt, or not in the spec. No event, no grace.
    Leftover,
}

/// Decides the next step. `previous` is the last status told (or the API object's): a terminal phase in it is final.
pub fn compute(pod: &Pod, observed: &ObservedPod, previous: &PodStatus, now: Timestamp) -> PodActions {
    let decision = Decision { pod, observed, previous, now, actions: PodActions::default() };
    let Some(spec) = &pod.spec else { return decision.terminate(&PodSpec::default()) };
    match end::end(pod, observed, previous, now) {
        Some(_) => decision.terminate(spec),
        None => decision.sync(spec),
    }
}

struct Decision<'a> {
    pod: &'a Pod,
    observed: &'a ObservedPod,
    previous: &'a PodStatus,
    now: Timestamp,
    actions: PodActions,
}

/// How far the init containers are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Init {
    Passed,
    InProgress,
    /// One failed and is not restarted.
    Failed,
}

impl Decision<'_> {
    /// Everything is to end: sidecars after what they serve, the last one first, unless time is up.
    fn terminate(mut self, spec: &PodSpec) -> PodActions {
        self.kill_leftovers(spec);
        let grace = end::grace_left(self.pod, self.observed, self.now);
        let sidecars: Vec<_> = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)).collect();
        let mut earlier_runs = false;
        let others = self.observed.containers.iter().filter(|c| !sidecars.iter().any(|s| s.name == c.name));
        for container in others {
            if container.running().is_some() {
                earlier_runs = true;
                self.kill(container, KillReason::PodTerminating, grace, stopping(&container.name));
            }
        }
        for sidecar in sidecars.iter().rev() {
            let Some(latest) = self.observed.latest(&sidecar.name).filter(|latest| latest.running().is_some()) else {
                continue;
            };
            if earlier_runs && !grace.is_zero() {
                self.wake_at(self.now.saturating_add(grace).unwrap_or(Timestamp::MAX));
                break;
            }
            self.kill(latest, KillReason::PodTerminating, grace, stopping(&sidecar.name));
            earlier_runs = true;
        }
        self.actions.finished = self.observed.containers.iter().all(|container| container.exit().is_some());
        self.actions
    }

    /// It goes on.
    fn sync(mut self, spec: &PodSpec) -> PodActions {
        if let Some(deadline) = end::deadline(self.pod, self.observed, self.previous) {
            self.wake_at(deadline);
        }
        // Said first: after a reboot init containers would run again for nothing.
        if spec.containers.iter().all(|container| matches!(self.next(spec, container), Next::Done(_))) {
            return self.over(spec);
        }
        match self.init_containers(spec) {
            Init::Failed => return self.over(spec),
            Init::InProgress => {}
            Init::Passed => {
                for container in &spec.containers {
                    self.container(spec, container, ContainerKind::Regular);
                }
            }
        }
        self.kill_leftovers(spec);
        self.actions.make_sandbox = !self.observed.sandbox.ready;
        self.actions
    }

    /// Nothing more will be started: what was decided so far is dropped.
    fn over(mut self, spec: &PodSpec) -> PodActions {
        self.actions = PodActions::default();
        self.terminate(spec)
    }

    fn init_containers(&mut self, spec: &PodSpec) -> Init {
        let init: &[Container] = spec.init_containers.as_deref().unwrap_or_default();
        let initialized = self.was_initialized(spec);
        // Records of completed ones may be gone: what has a record proves that all before it completed.
        let proven = init.iter().rposition(|container| self.observed.latest(&container.name).is_some()).unwrap_or(0);
        for (index, container) in init.iter().enumerate() {
            if is_sidecar(container) {
                self.container(spec, container, ContainerKind::Init);
                let latest = self.observed.latest(&container.name);
                let started = latest.and_then(ObservedContainer::running).is_some_and(|running| running.started);
                if !started && !initialized {
                    return Init::InProgress;
                }
                continue;
            }
            let unknown = self.observed.latest(&container.name).is_none();
            if initialized || (unknown && index < proven) {
                continue;
            }
            match self.next(spec, container) {
                Next::Done(0) => {}
                Next::Done(_) => return Init::Failed,
                Next::Keep | Next::Start { .. } | Next::Wait { .. } => {
                    self.container(spec, container, ContainerKind::Init);
                    return Init::InProgress;
                }
            }
        }
        Init::Passed
    }

    /// Whether init containers ran to their end before: then they do not run again in this sandbox.
    fn was_initialized(&self, spec: &PodSpec) -> bool {
        spec.containers.iter().any(|container| {
            self.observed.latest(&container.name).is_some_and(|latest| match latest.state {
                ContainerState::Created | ContainerState::Running(_) => true,
                ContainerState::Exited(_) => self.observed.sandbox.ready,
            })
        })
    }

    fn next(&self, spec: &PodSpec, container: &Container) -> Next {
        let latest = self.observed.latest(&container.name);
        let ended = latest.and_then(ObservedContainer::exit).map(|exit| exit.exit_code);
        if ended == Some(0) && !is_regular(spec, container) && !is_sidecar(container) {
            // Completed for good, also when its image changed since.
            return Next::Done(0);
        }
        let next = restart::next(spec, container, self.observed, self.previous, self.now);
        if next == Next::Done(0) && latest.is_none() && !is_regular(spec, container) {
            // A new sandbox, without any record: init containers run again, as after a reboot.
            let told = super::previous::container(self.previous, &container.name);
            let attempt = told.and_then(super::previous::last_attempt).map_or(0, |number| number + 1);
            return Next::Start { attempt, delay: None };
        }
        next
    }

    /// Starts, restarts or keeps one.
    fn container(&mut self, spec: &PodSpec, container: &Container, kind: ContainerKind) {
        match self.next(spec, container) {
            Next::Keep => {
                if let Some(latest) = self.observed.latest(&container.name).cloned() {
                    self.keep(spec, container, &latest, kind);
                }
            }
            Next::Done(_) => {}
            Next::Start { attempt, delay } => {
                self.actions.start.push(StartContainer { name: container.name.clone(), kind, attempt, delay });
            }
            Next::Wait { until, why } => {
                if matches!(why, Why::CrashLoop { .. }) {
                    self.actions.backing_off.push(container.name.clone());
                }
                self.wake_at(until);
            }
        }
    }

    /// Looks at a running one. Whether it goes on once it is killed is decided when it ended; until then the pod has
    /// something that runs.
    fn keep(&mut self, spec: &PodSpec, container: &Container, latest: &ObservedContainer, kind: ContainerKind) {
        let failure = latest.running().and_then(|running| running.failure);
        let (reason, what) = match failure {
            _ if latest.spec_hash != spec_hash(container) => (KillReason::SpecChanged, "definition changed"),
            Some(Failure::Liveness) => (KillReason::LivenessProbe, "failed liveness probe"),
            Some(Failure::Startup) => (KillReason::StartupProbe, "failed startup probe"),
            Some(Failure::PostStartHook) => (KillReason::PostStartHook, ""),
            None => return,
        };
        let restarts = reason == KillReason::SpecChanged || restart::restarts_after_kill(spec, container);
        let message = match (reason, kind, restarts) {
            (KillReason::PostStartHook, _, _) => "FailedPostStartHook".to_owned(),
            (_, ContainerKind::Init, _) => format!("Init container {} {what}", container.name),
            (_, ContainerKind::Regular, true) => format!("Container {} {what}, will be restarted", container.name),
            (_, ContainerKind::Regular, false) => format!("Container {} {what}", container.name),
        };
        let probe = match reason {
            KillReason::LivenessProbe => container.liveness_probe.as_ref(),
            KillReason::StartupProbe => container.startup_probe.as_ref(),
            KillReason::PodTerminating | KillReason::SpecChanged | KillReason::PostStartHook | KillReason::Leftover => {
                None
            }
        };
        let own = probe.and_then(|probe| probe.termination_grace_period_seconds).map(end::seconds);
        self.kill(latest, reason, own.unwrap_or_else(|| end::own_grace(self.pod)), message);
    }

    /// Older attempts that still run, attempts that were made and never started, containers that are not in the spec.
    fn kill_leftovers(&mut self, spec: &PodSpec) {
        for container in &self.observed.containers {
            let listed = all(spec).any(|other| other.name == container.name);
            let superseded = self.observed.latest(&container.name).is_some_and(|l| l.attempt != container.attempt);
            let leftover = match &container.state {
                ContainerState::Created => true,
                ContainerState::Running(_) => superseded || !listed,
                ContainerState::Exited(_) => false,
            };
            if leftover {
                self.kill(container, KillReason::Leftover, Duration::ZERO, String::new());
            }
        }
    }

    /// Names an attempt once, and again only when it is to end sooner than was said.
    fn kill(&mut self, container: &ObservedContainer, reason: KillReason, grace: Duration, message: String) {
        let grace = if reason == KillReason::Leftover { grace } else { grace.max(MINIMUM_GRACE) };
        let deadline = self.now.saturating_add(grace).unwrap_or(Timestamp::MAX);
        let said = container.running().and_then(|running| running.stopping);
        if let Some(stopping) = said {
            let until = stopping.since.saturating_add(stopping.grace).unwrap_or(Timestamp::MAX);
            // A second is what clocks and rounding may differ by.
            if deadline.saturating_add(Duration::from_secs(1)).unwrap_or(Timestamp::MAX) >= until {
                return;
            }
        }
        if self.actions.kill.iter().any(|kill| kill.id == container.id) {
            return;
        }
        self.actions.kill.push(KillContainer {
            name: container.name.clone(),
            id: container.id.clone(),
            attempt: container.attempt,
            reason,
            message,
            grace,
        });
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.actions.wake_at = Some(self.actions.wake_at.map_or(at, |other| other.min(at)));
    }
}

fn stopping(name: &str) -> String {
    format!("Stopping container {name}")
}

fn is_regular(spec: &PodSpec, container: &Container) -> bool {
    spec.containers.iter().any(|regular| regular.name == container.name)
}

fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}
