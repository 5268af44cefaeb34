//! A pod in one line, for messages.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

/// Phase, or nothing.
pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("no phase")
}

/// Whether the condition Ready is True.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

/// The pod's address.
pub fn pod_ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

/// Status of a container by name.
pub fn container_state<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == container)
}

/// `Running; app: waiting CrashLoopBackOff (back-off 10s ...), 3 restarts`.
pub fn describe(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let mut text = phase(pod).to_owned();
    if let Some(reason) = status.and_then(|status| status.reason.as_deref()) {
        text += &format!(" ({reason})");
    }
    if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
        text += ", on no node";
    }
    for container in all {
        let state = container.state.as_ref().map_or_else(|| "no state".into(), describe_state);
        text +=
            &format!("; {}: {state}, ready {}, {} restarts", container.name, container.ready, container.restart_count);
    }
    text
}

fn describe_state(state: &ContainerState) -> String {
    match (&state.waiting, &state.running, &state.terminated) {
        (Some(waiting), _, _) => {
            let message = waiting.message.as_deref().unwrap_or_default();
            format!("waiting {} {message}", waiting.reason.as_deref().unwrap_or_default())
        }
        (_, Some(_), _) => "running".into(),
        (_, _, Some(end)) => format!("ended {} {}", end.exit_code, end.reason.as_deref().unwrap_or_default()),
        (None, None, None) => "no state".into(),
    }
}
