//! The conditions that a node owns (kubelet: `status/generate.go`), and those of others, kept.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::ObservedPod;
use super::phase::Phase;
use super::previous;
use super::restart::is_sidecar;
use crate::reasons::condition as reason;

/// Condition types that the node writes; all others belong to someone else.
pub mod kind {
    pub const POD_READY_TO_START_CONTAINERS: &str = "PodReadyToStartContainers";
    pub const INITIALIZED: &str = "Initialized";
    pub const READY: &str = "Ready";
    pub const CONTAINERS_READY: &str = "ContainersReady";
    pub const POD_SCHEDULED: &str = "PodScheduled";
    /// Shared: written by the node when it ends a pod.
    pub const DISRUPTION_TARGET: &str = "DisruptionTarget";
}

const OWNED: [&str; 5] =
    [kind::POD_READY_TO_START_CONTAINERS, kind::INITIALIZED, kind::READY, kind::CONTAINERS_READY, kind::POD_SCHEDULED];

/// `status`, `reason` and `message` of one condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn holds() -> Self {
        Self { holds: true, ..Self::default() }
    }

    fn fails(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason: Some(reason), message: Some(message).filter(|message| !message.is_empty()) }
    }
}

/// What the conditions are made from.
pub(super) struct Sources<'a> {
    pub(super) pod: &'a Pod,
    pub(super) observed: &'a ObservedPod,
    pub(super) previous: &'a PodStatus,
    pub(super) phase: Phase,
    pub(super) init_statuses: &'a [ContainerStatus],
    pub(super) statuses: &'a [ContainerStatus],
    pub(super) now: Timestamp,
}

/// Others' first, then the node's, in the kubelet's order.
pub(super) fn conditions(sources: &Sources<'_>, spec: &PodSpec) -> Vec<PodCondition> {
    let mut conditions = foreign(sources.pod, sources.previous);
    if let Some(disruption) = disruption(sources) {
        conditions.retain(|condition| condition.type_ != kind::DISRUPTION_TARGET);
        conditions.push(disruption);
    }
    let containers = containers_ready(sources, spec);
    let ready = if containers.holds { gates(spec, &conditions) } else { containers.clone() };
    let sandbox = Verdict { holds: sources.observed.sandbox.ready, ..Verdict::default() };
    conditions.extend([
        sources.condition(kind::POD_READY_TO_START_CONTAINERS, sandbox),
        sources.condition(kind::INITIALIZED, initialized(sources, spec)),
        sources.condition(kind::READY, ready),
        sources.condition(kind::CONTAINERS_READY, containers),
        sources.condition(kind::POD_SCHEDULED, Verdict::holds()),
    ]);
    conditions
}

/// Conditions owned by others, as the API object has them now; without a status in it, as they were told.
pub(super) fn foreign(pod: &Pod, previous: &PodStatus) -> Vec<PodCondition> {
    let current = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).or(previous.conditions.as_ref());
    let kept = |condition: &&PodCondition| !OWNED.contains(&condition.type_.as_str());
    current.into_iter().flatten().filter(kept).cloned().collect()
}

impl Sources<'_> {
    fn condition(&self, kind: &str, verdict: Verdict) -> PodCondition {
        let status = if verdict.holds { "True" } else { "False" };
        let before = previous::condition(self.previous, kind).filter(|before| before.status == status);
        let since = before.and_then(|before| before.last_transition_time.clone());
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message,
            last_transition_time: Some(since.unwrap_or_else(|| super::status::time(self.now))),
            last_probe_time: None::<Time>,
            observed_generation: self.pod.metadata.generation,
        }
    }
}

/// Told once the pod's phase is terminal because this node ended it.
fn disruption(sources: &Sources<'_>) -> Option<PodCondition> {
    let termination = sources.observed.termination.as_ref()?;
    let disrupts = matches!(termination.reason, crate::reasons::pod::EVICTED | crate::reasons::pod::TERMINATED);
    if !disrupts || !sources.phase.is_terminal() {
        return None;
    }
    let verdict = Verdict {
        holds: true,
        reason: Some(reason::TERMINATION_BY_KUBELET),
        message: Some(termination.message.clone()),
    };
    Some(sources.condition(kind::DISRUPTION_TARGET, verdict))
}

fn containers_ready(sources: &Sources<'_>, spec: &PodSpec) -> Verdict {
    match sources.phase {
        Phase::Succeeded => return Verdict::fails(reason::POD_COMPLETED, String::new()),
        Phase::Failed => return Verdict::fails(reason::POD_FAILED, String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let mut unknown = Vec::new();
    let mut unready = Vec::new();
    for container in sidecars.chain(&spec.containers) {
        match sources.status_of(&container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    lists(&[("unknown", &unknown), ("unready", &unready)])
        .map_or_else(Verdict::holds, |message| Verdict::fails(reason::CONTAINERS_NOT_READY, message))
}

fn gates(spec: &PodSpec, conditions: &[PodCondition]) -> Verdict {
    let mut messages = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match conditions.iter().find(|condition| condition.type_ == *kind) {
            None => {
                messages.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist."));
            }
            Some(condition) if condition.status != "True" => {
                let status = &condition.status;
                messages.push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {status}"));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        return Verdict::holds();
    }
    Verdict::fails(reason::READINESS_GATES_NOT_READY, messages.join(", "))
}

fn initialized(sources: &Sources<'_>, spec: &PodSpec) -> Verdict {
    let mut unknown = Vec::new();
    let mut incomplete = Vec::new();
    for container in spec.init_containers.iter().flatten() {
        match sources.status_of(&container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done = if is_sidecar(container) { status.started == Some(true) } else { status.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if sources.phase == Phase::Succeeded && unknown.is_empty() {
        return Verdict { holds: true, reason: Some(reason::POD_COMPLETED), message: None };
    }
    let began = sources
        .statuses
        .iter()
        .any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some()));
    // Once initialized, a pod stays so: sidecars may start anew.
    let before = previous::condition(sources.previous, kind::INITIALIZED);
    if began || before.is_some_and(|before| before.status == "True") {
        return Verdict::holds();
    }
    lists(&[("unknown", &unknown), ("incomplete", &incomplete)])
        .map_or_else(Verdict::holds, |message| Verdict::fails(reason::CONTAINERS_NOT_INITIALIZED, message))
}

impl Sources<'_> {
    fn status_of(&self, name: &str) -> Option<&ContainerStatus> {
        self.init_statuses.iter().chain(self.statuses).find(|status| status.name == name)
    }
}

fn lists(lists: &[(&str, &Vec<&str>)]) -> Option<String> {
    let parts: Vec<_> = lists
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("containers with {what} status: [{}]", names.join(" ")))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
