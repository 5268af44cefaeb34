//! What the last status told of a pod: all that is known of attempts whose records are gone.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

/// `ContainerStatusUnknown`: what is told of an attempt that is gone without a trace.
pub(super) const LOST_EXIT_CODE: i32 = 137;

/// What was told of one container.
pub(super) fn container<'a>(previous: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let regular = previous.container_statuses.iter().flatten();
    let init = previous.init_container_statuses.iter().flatten();
    regular.chain(init).find(|status| status.name == name)
}

/// Number of the last attempt that was told of; `None` if it never had one.
pub(super) fn last_attempt(told: &ContainerStatus) -> Option<u32> {
    let had_one = told.container_id.as_deref().is_some_and(|id| !id.is_empty()) || told.restart_count > 0;
    had_one.then(|| u32::try_from(told.restart_count).unwrap_or(0))
}

/// Exit code and end of an attempt that was told of and is gone: ended as told, or lost while it ran.
pub(super) fn ending(told: &ContainerStatus) -> Option<(i32, Option<Timestamp>)> {
    let state = told.state.as_ref()?;
    if let Some(terminated) = &state.terminated {
        return Some((terminated.exit_code, terminated.finished_at.as_ref().map(|time| time.0)));
    }
    state.running.as_ref().map(|_| (LOST_EXIT_CODE, None))
}

/// A condition that was told.
pub(super) fn condition<'a>(previous: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    previous.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// `Succeeded` or `Failed`: final.
pub(super) fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}
