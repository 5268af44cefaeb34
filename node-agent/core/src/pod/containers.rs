//! The status of one container (kubelet: `kubelet_pods.go` `convertToAPIContainerStatuses`, `prober_manager.go`
//! `UpdatePodStatus`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodSpec, PodStatus, VolumeMountStatus,
};

use super::observed::{ContainerKind, ContainerState as Observed, Exit, ObservedContainer, ObservedPod};
use super::previous;
use super::restart::{self, Next, Why, is_sidecar};
use super::status::time;
use crate::reasons::{terminated, waiting};

/// Prefix of container ids in a status.
pub const CONTAINER_ID_SCHEME: &str = "samara://";
/// Bytes of termination messages in one status, all containers together.
const MESSAGES_LIMIT: usize = 12 * 1024;

/// What a container's status is made from.
pub(super) struct Sources<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a PodSpec,
    pub(super) observed: &'a ObservedPod,
    pub(super) previous: &'a PodStatus,
    /// The pod goes on: containers that do not run may be started.
    pub(super) goes_on: bool,
    /// It ends and nothing of it runs: a container without a known end gets one.
    pub(super) over: bool,
    pub(super) now: Timestamp,
}

impl Sources<'_> {
    /// Init containers in the order of the spec.
    pub(super) fn init_containers(&self) -> Vec<ContainerStatus> {
        let containers = self.spec.init_containers.iter().flatten();
        containers.map(|container| self.container(container, ContainerKind::Init)).collect()
    }

    /// By name.
    pub(super) fn containers(&self) -> Vec<ContainerStatus> {
        let containers = self.spec.containers.iter();
        let mut statuses: Vec<_> =
            containers.map(|container| self.container(container, ContainerKind::Regular)).collect();
        statuses.sort_by(|a, b| a.name.cmp(&b.name));
        statuses
    }

    fn container(&self, container: &Container, kind: ContainerKind) -> ContainerStatus {
        let told = previous::container(self.previous, &container.name);
        let mut status = match self.observed.latest(&container.name) {
            Some(latest) => self.known(container, latest, told),
            None => self.unknown(container, told),
        };
        status.volume_mounts = Some(volume_mounts(container)).filter(|mounts| !mounts.is_empty());
        if self.goes_on {
            self.wait(container, kind, &mut status);
        }
        if self.over && self.was_initialized(kind) {
            end_unknown(&mut status);
        }
        status.ready = self.ready(container, kind, &status);
        status
    }

    /// At least one attempt is known.
    fn known(
        &self,
        container: &Container,
        latest: &ObservedContainer,
        told: Option<&ContainerStatus>,
    ) -> ContainerStatus {
        let id = format!("{CONTAINER_ID_SCHEME}{}", latest.id);
        let count = i32::try_from(latest.attempt).unwrap_or(i32::MAX);
        let state = match &latest.state {
            Observed::Created => self.default_waiting(),
            Observed::Running(running) => ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(time(running.started_at)) }),
                ..ContainerState::default()
            },
            Observed::Exited(exit) => self.ended(exit, &id),
        };
        let before = self
            .observed
            .before_latest(&container.name)
            .and_then(|attempt| Some(self.ended(attempt.exit()?, &format!("{CONTAINER_ID_SCHEME}{}", attempt.id))));
        let last_state = before.or_else(|| {
            let told = told?;
            let other = told.container_id.as_deref() != Some(id.as_str());
            let ended = told.state.clone().filter(|state| other && state.terminated.is_some());
            ended.or_else(|| told.last_state.clone())
        });
        ContainerStatus {
            name: container.name.clone(),
            image: latest.image.clone(),
            image_id: latest.image_id.clone(),
            container_id: Some(id),
            restart_count: count.max(told.map_or(0, |told| told.restart_count)),
            state: Some(state),
            last_state: Some(last_state.unwrap_or_default()),
            started: Some(latest.running().is_some_and(|running| running.started)),
            allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
            resources: container.resources.clone(),
            ..ContainerStatus::default()
        }
    }

    /// No attempt is known: none was made yet, or its record is gone.
    fn unknown(&self, container: &Container, told: Option<&ContainerStatus>) -> ContainerStatus {
        let mut status = ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(self.default_waiting()),
            last_state: Some(ContainerState::default()),
            started: Some(false),
            ..ContainerStatus::default()
        };
        let Some(told) = told else { return status };
        let state = told.state.clone().unwrap_or_default();
        if state.terminated.is_some() {
            return ContainerStatus { started: Some(false), ..told.clone() };
        }
        status.restart_count = told.restart_count;
        status.container_id.clone_from(&told.container_id);
        status.image_id.clone_from(&told.image_id);
        status.last_state.clone_from(&told.last_state);
        if state.running.is_some() {
            status.state = Some(terminated(lost("The container could not be located when the pod was terminated")));
        }
        status
    }

    /// What does not run and will be started waits; how it ended becomes its last state.
    fn wait(&self, container: &Container, kind: ContainerKind, status: &mut ContainerStatus) {
        let next = restart::next(self.spec, container, self.observed, self.previous, self.now);
        let done = match (&next, kind) {
            (Next::Keep | Next::Done(_), _) => true,
            (Next::Start { .. } | Next::Wait { .. }, ContainerKind::Init) => {
                let code = status.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|end| end.exit_code);
                code == Some(0) && !is_sidecar(container)
            }
            (Next::Start { .. } | Next::Wait { .. }, ContainerKind::Regular) => false,
        };
        if done {
            return;
        }
        let effect = self.observed.waiting.get(&container.name);
        let told = match (next, effect) {
            (Next::Wait { why: Why::CrashLoop { back_off }, .. }, _) => ContainerStateWaiting {
                reason: Some(waiting::CRASH_LOOP_BACK_OFF.to_owned()),
                message: Some(crate::events::back_off_message(back_off, &container.name, self.pod)),
            },
            (_, Some(effect)) => ContainerStateWaiting {
                reason: Some(effect.reason.to_owned()),
                message: Some(effect.message.clone()).filter(|message| !message.is_empty()),
            },
            // Started at once: what it was is more telling.
            (_, None) => return,
        };
        if let Some(state) = status.state.take().filter(|state| state.terminated.is_some()) {
            status.last_state = Some(state);
        }
        status.state = Some(ContainerState { waiting: Some(told), ..ContainerState::default() });
    }

    fn ready(&self, container: &Container, kind: ContainerKind, status: &ContainerStatus) -> bool {
        if kind == ContainerKind::Init && !is_sidecar(container) {
            let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
            return ended.is_some_and(|ended| ended.exit_code == 0);
        }
        let latest = self.observed.latest(&container.name).and_then(ObservedContainer::running);
        latest.is_some_and(|running| running.started && running.ready)
    }

    fn default_waiting(&self) -> ContainerState {
        let has_init = self.spec.init_containers.iter().flatten().next().is_some();
        let reason = if has_init { waiting::POD_INITIALIZING } else { waiting::CONTAINER_CREATING };
        let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message: None };
        ContainerState { waiting: Some(waiting), ..ContainerState::default() }
    }

    /// Init containers that never began say so even when the pod is over.
    fn was_initialized(&self, kind: ContainerKind) -> bool {
        let began = self.spec.containers.iter().any(|container| self.observed.latest(&container.name).is_some());
        let no_init = self.spec.init_containers.iter().flatten().next().is_none();
        match kind {
            ContainerKind::Regular => no_init || began,
            ContainerKind::Init => began,
        }
    }

    fn ended(&self, exit: &Exit, container_id: &str) -> ContainerState {
        let reason = if !exit.seen {
            terminated::CONTAINER_STATUS_UNKNOWN
        } else if exit.oom_killed {
            terminated::OOM_KILLED
        } else if exit.started_at.is_none() && exit.exit_code != 0 {
            terminated::START_ERROR
        } else if exit.exit_code == 0 {
            terminated::COMPLETED
        } else {
            terminated::ERROR
        };
        let containers = self.spec.containers.len() + self.spec.init_containers.as_ref().map_or(0, Vec::len);
        terminated(ContainerStateTerminated {
            container_id: Some(container_id.to_owned()),
            exit_code: if exit.seen { exit.exit_code } else { previous::LOST_EXIT_CODE },
            reason: Some(reason.to_owned()),
            message: exit.message.as_deref().map(|message| cut(message, MESSAGES_LIMIT / containers.max(1))),
            signal: None,
            started_at: Some(time(exit.started_at.unwrap_or(exit.finished_at))),
            finished_at: Some(time(exit.finished_at)),
        })
    }
}

fn volume_mounts(container: &Container) -> Vec<VolumeMountStatus> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only,
            recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect()
}

fn end_unknown(status: &mut ContainerStatus) {
    if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
        status.state = Some(terminated(lost("The container could not be located when the pod was terminated")));
    }
}

fn terminated(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn lost(message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: previous::LOST_EXIT_CODE,
        reason: Some(terminated::CONTAINER_STATUS_UNKNOWN.to_owned()),
        message: Some(message.to_owned()),
        ..ContainerStateTerminated::default()
    }
}

/// At most `limit` bytes, whole characters.
fn cut(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}
