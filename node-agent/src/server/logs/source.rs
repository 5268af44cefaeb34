//! Which file a request means: a function of the pod's status (kubelet: `validateContainerLogStatus`).

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Whether the pod's spec has such a container.
pub(in super::super) fn has_container(pod: &Pod, container: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let init = spec.init_containers.iter().flatten().map(|container| &container.name);
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
        spec.containers
            .iter()
            .map(|container| &container.name)
            .chain(init)
            .chain(ephemeral)
            .any(|name| name == container)
    })
}

/// `<logs>/<namespace>_<name>_<uid>/<container>/<attempt>.log`.
pub(super) fn path(logs: &Path, namespace: &str, name: &str, uid: &str, container: &str, attempt: u32) -> PathBuf {
    logs.join(format!("{namespace}_{name}_{uid}")).join(container).join(format!("{attempt}.log"))
}

/// The attempt whose log is meant, or the kubelet's words for why there is none.
///
/// `restartCount` numbers the attempt that runs or ended last: a container that waits for its next start still shows the
/// last one, and then `previous` means the same.
pub(super) fn attempt(pod: &Pod, container: &str, previous: bool) -> Result<u32, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = status(pod, container) else {
        return Err(format!("container {container:?} in pod {name:?} is not available"));
    };
    let now = u32::try_from(status.restart_count).unwrap_or_default();
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.filter(|terminated| terminated.container_id.as_ref().is_some_and(|id| !id.is_empty()));
    let current_is_shown = state.running.is_some()
        || state
            .terminated
            .as_ref()
            .is_some_and(|terminated| terminated.container_id.as_ref().is_some_and(|id| !id.is_empty()));
    match (previous, current_is_shown, last) {
        (true, _, None) => Err(format!("previous terminated container {container:?} in pod {name:?} not found")),
        (true, true, Some(_)) => Ok(now.saturating_sub(1)),
        (true, false, Some(_)) | (false, true, _) | (false, false, Some(_)) => Ok(now),
        (false, false, None) if state.terminated.is_some() => {
            Err(format!("container {container:?} in pod {name:?} is terminated"))
        }
        (false, false, None) => {
            Err(format!("container {container:?} in pod {name:?} is waiting to start{}", waiting(&state.waiting)))
        }
    }
}

fn waiting(waiting: &Option<k8s_openapi::api::core::v1::ContainerStateWaiting>) -> String {
    match waiting.as_ref().map(|waiting| waiting.reason.as_deref().unwrap_or_default()) {
        Some("ErrImagePull") => ": image can't be pulled".into(),
        Some("ImagePullBackOff") => ": trying and failing to pull image".into(),
        Some(reason) => format!(": {reason}"),
        None => " - no logs yet".into(),
    }
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == container)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, PodStatus,
    };

    use super::*;

    fn running() -> ContainerState {
        ContainerState { running: Some(ContainerStateRunning::default()), ..ContainerState::default() }
    }

    fn ended() -> ContainerState {
        let terminated =
            ContainerStateTerminated { container_id: Some("samara://x".into()), ..ContainerStateTerminated::default() };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }

    fn lost() -> ContainerState {
        ContainerState { terminated: Some(ContainerStateTerminated::default()), ..ContainerState::default() }
    }

    fn waits(reason: &str) -> ContainerState {
        let waiting = ContainerStateWaiting { reason: Some(reason.into()), message: None };
        ContainerState { waiting: Some(waiting), ..ContainerState::default() }
    }

    fn pod(state: ContainerState, last_state: Option<ContainerState>, restart_count: i32) -> Pod {
        let status = ContainerStatus {
            name: "app".into(),
            state: Some(state),
            last_state,
            restart_count,
            ..ContainerStatus::default()
        };
        let mut pod = Pod {
            status: Some(PodStatus { container_statuses: Some(vec![status]), ..PodStatus::default() }),
            ..Pod::default()
        };
        pod.metadata.name = Some("web".into());
        pod
    }

    #[test]
    fn the_status_tells_the_attempt() {
        let table = [
            (
                "first start",
                pod(running(), None, 0),
                Ok(0),
                Err(r#"previous terminated container "app" in pod "web" not found"#),
            ),
            ("restarted", pod(running(), Some(ended()), 3), Ok(3), Ok(2)),
            ("waits after a crash", pod(waits("CrashLoopBackOff"), Some(ended()), 3), Ok(3), Ok(3)),
            (
                "completed",
                pod(ended(), None, 0),
                Ok(0),
                Err(r#"previous terminated container "app" in pod "web" not found"#),
            ),
            ("completed after a restart", pod(ended(), Some(ended()), 1), Ok(1), Ok(0)),
            ("could not start again", pod(lost(), Some(ended()), 1), Ok(1), Ok(1)),
            (
                "image missing",
                pod(waits("ErrImagePull"), None, 0),
                Err(r#"container "app" in pod "web" is waiting to start: image can't be pulled"#),
                Err(r#"previous terminated container "app" in pod "web" not found"#),
            ),
            (
                "not yet",
                pod(waits("ContainerCreating"), None, 0),
                Err(r#"container "app" in pod "web" is waiting to start: ContainerCreating"#),
                Err(r#"previous terminated container "app" in pod "web" not found"#),
            ),
            (
                "never ran",
                pod(lost(), None, 0),
                Err(r#"container "app" in pod "web" is terminated"#),
                Err(r#"previous terminated container "app" in pod "web" not found"#),
            ),
        ];
        for (name, pod, current, previous) in table {
            assert_eq!(attempt(&pod, "app", false), current.map_err(str::to_owned), "{name}");
            assert_eq!(attempt(&pod, "app", true), previous.map_err(str::to_owned), "{name}, previous");
        }
    }

    #[test]
    fn a_container_without_status_is_not_available() {
        let error = attempt(&pod(running(), None, 0), "other", false);
        assert_eq!(error, Err(r#"container "other" in pod "web" is not available"#.into()));
    }
}
