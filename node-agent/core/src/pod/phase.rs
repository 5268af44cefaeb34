//! The phase that container statuses add up to (kubelet: `kubelet_pods.go` `getPhase`).

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, PodSpec};

use super::restart::{is_sidecar, restarts};

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    pub(super) fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Pending | Self::Running => false,
        }
    }
}

/// What one status says.
enum Seen<'a> {
    Running,
    /// It ended; it may be waiting for its restart.
    Ended(&'a ContainerStateTerminated),
    /// It never ran, as far as is known.
    NotYet,
}

fn seen<'a>(statuses: &'a [ContainerStatus], name: &str) -> Seen<'a> {
    let Some(status) = statuses.iter().find(|status| status.name == name) else { return Seen::NotYet };
    let state = status.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Seen::Running;
    }
    let ended = state.and_then(|state| state.terminated.as_ref());
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    ended.or(before).map_or(Seen::NotYet, Seen::Ended)
}

/// `over`: the pod ends and nothing of it runs; `began`: one of its regular containers has been made.
pub(super) fn phase(
    spec: &PodSpec,
    init_statuses: &[ContainerStatus],
    statuses: &[ContainerStatus],
    over: bool,
    began: bool,
) -> Phase {
    let mut pending = false;
    let mut running = 0;
    for container in spec.init_containers.iter().flatten() {
        match (seen(init_statuses, &container.name), is_sidecar(container)) {
            (Seen::Running, true) => {
                running += 1;
                // Once the pod began, a sidecar that starts anew does not take it back to Pending.
                pending |= !began && !has_started(init_statuses, container);
            }
            (Seen::Running | Seen::NotYet, false) | (Seen::NotYet, true) => pending = true,
            (Seen::Ended(end), false) if end.exit_code != 0 && !restarts(spec, container, end.exit_code) => {
                return Phase::Failed;
            }
            (Seen::Ended(_), _) => {}
        }
    }
    let mut ended: Vec<(&Container, i32)> = Vec::new();
    for container in &spec.containers {
        match seen(statuses, &container.name) {
            Seen::Running => running += 1,
            Seen::Ended(end) => ended.push((container, end.exit_code)),
            Seen::NotYet => pending = true,
        }
    }
    if pending {
        return Phase::Pending;
    }
    if running > 0 {
        return Phase::Running;
    }
    if ended.is_empty() {
        return Phase::Pending;
    }
    if !over && ended.iter().any(|(container, code)| restarts(spec, container, *code)) {
        return Phase::Running;
    }
    if ended.iter().all(|(_, code)| *code == 0) { Phase::Succeeded } else { Phase::Failed }
}

fn has_started(statuses: &[ContainerStatus], container: &Container) -> bool {
    statuses.iter().any(|status| status.name == container.name && status.started == Some(true))
}
