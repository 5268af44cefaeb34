//! What a pod's status means for who waits for it. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use samara_core::pod::is_sidecar;
use samara_core::reasons::waiting;

/// How a play stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// On its way.
    Waits,
    Runs,
    /// Each container's exit code, in the manifest's order.
    Over(Vec<u8>),
    /// It will not run as it is, for this reason.
    Stuck(String),
}

/// Reasons that pass by themselves, or are no trouble.
const USUAL: [&str; 3] = [waiting::CONTAINER_CREATING, waiting::POD_INITIALIZING, waiting::CRASH_LOOP_BACK_OFF];

/// Of one pod; `told`: what the node says of it, if it has said anything.
pub(super) fn verdict(pod: &Pod, told: Option<&PodStatus>) -> Verdict {
    let Some(status) = told else { return Verdict::Waits };
    let phase = status.phase.as_deref().unwrap_or_default();
    let all = || status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    if let (true, Some(reason)) = (phase == "Failed", &status.reason) {
        let message = status.message.as_deref().unwrap_or_default();
        return Verdict::Stuck(format!("{reason}: {message}"));
    }
    if matches!(phase, "Succeeded" | "Failed") {
        let names = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| &container.name);
        // How a sidecar ends is nobody's failure: it is stopped when all others have ended.
        let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let sidecars: Vec<_> = inits.filter(|init| is_sidecar(init)).map(|sidecar| &sidecar.name).collect();
        let inits = status.init_container_statuses.iter().flatten().filter(|one| !sidecars.contains(&&one.name));
        let failed_init = inits.filter_map(exit_code).find(|code| *code != 0);
        let codes = names.filter_map(|name| status.container_statuses.iter().flatten().find(|one| one.name == *name));
        return Verdict::Over(failed_init.into_iter().chain(codes.filter_map(exit_code)).collect());
    }
    let stuck = all().find_map(|one| {
        let waiting = one.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| !USUAL.contains(reason))?;
        Some(format!("{}: {reason}: {}", one.name, waiting.message.as_deref().unwrap_or_default()))
    });
    match stuck {
        Some(stuck) => Verdict::Stuck(stuck),
        None if phase == "Running" => Verdict::Runs,
        None => Verdict::Waits,
    }
}

fn exit_code(status: &ContainerStatus) -> Option<u8> {
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    Some(u8::try_from(ended.exit_code).unwrap_or(255))
}

/// Of several pods: whatever went wrong first, then whatever is still to come.
pub(super) fn together(verdicts: impl IntoIterator<Item = (String, Verdict)>) -> Verdict {
    let (mut codes, mut running, mut waiting) = (Vec::new(), false, false);
    for (name, verdict) in verdicts {
        match verdict {
            Verdict::Stuck(why) => return Verdict::Stuck(format!("{name}: {why}")),
            Verdict::Over(mut of_pod) => codes.append(&mut of_pod),
            Verdict::Runs => running = true,
            Verdict::Waits => waiting = true,
        }
    }
    match (waiting, running) {
        (true, _) => Verdict::Waits,
        (false, true) => Verdict::Runs,
        (false, false) => Verdict::Over(codes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(status: Value) -> Verdict {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
            "spec": {
                "initContainers": [
                    { "name": "i", "image": "i" }, { "name": "sidecar", "image": "i", "restartPolicy": "Always" },
                ],
                "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }],
            },
        });
        let status: PodStatus = serde_json::from_value(status).unwrap();
        verdict(&serde_json::from_value(pod).unwrap(), Some(&status))
    }

    fn container(name: &str, state: Value) -> Value {
        json!({ "name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state })
    }

    fn ended(name: &str, code: i32) -> Value {
        container(name, json!({ "terminated": { "exitCode": code } }))
    }

    #[test]
    fn a_pod_that_is_over_gives_its_exit_codes_in_the_manifests_order() {
        let over = |statuses: Value| of(json!({ "phase": "Failed", "containerStatuses": statuses }));
        assert_eq!(over(json!([ended("b", 3), ended("a", 0)])), Verdict::Over(vec![0, 3]));
        let init = json!({ "phase": "Failed", "initContainerStatuses": [ended("i", 7)], "containerStatuses": [] });
        assert_eq!(of(init), Verdict::Over(vec![7]));
        let beside = json!({
            "phase": "Succeeded", "initContainerStatuses": [ended("i", 0), ended("sidecar", 143)],
            "containerStatuses": [ended("a", 0), ended("b", 0)],
        });
        assert_eq!(of(beside), Verdict::Over(vec![0, 0]));
    }

    #[test]
    fn what_waits_for_a_person_is_told_from_what_waits_for_its_turn() {
        let waits = |reason: &str| container("a", json!({ "waiting": { "reason": reason, "message": "because" } }));
        let pending = |reason: &str| of(json!({ "phase": "Pending", "containerStatuses": [waits(reason)] }));
        assert_eq!(pending("ContainerCreating"), Verdict::Waits);
        assert_eq!(
            pending("CreateContainerConfigError"),
            Verdict::Stuck("a: CreateContainerConfigError: because".into())
        );
        let crashes = json!({ "phase": "Running", "containerStatuses": [waits("CrashLoopBackOff")] });
        assert_eq!(of(crashes), Verdict::Runs);
        let refused = json!({ "phase": "Failed", "reason": "OutOfmemory", "message": "too much" });
        assert_eq!(of(refused), Verdict::Stuck("OutOfmemory: too much".into()));
        assert_eq!(verdict(&Pod::default(), None), Verdict::Waits);
    }

    #[test]
    fn several_pods_are_over_when_each_is() {
        let named = |verdicts: &[Verdict]| together(verdicts.iter().map(|verdict| ("p".to_owned(), verdict.clone())));
        let (over, stuck) = (Verdict::Over(vec![1]), Verdict::Stuck("x".into()));
        assert_eq!(named(&[over.clone(), Verdict::Over(vec![0])]), Verdict::Over(vec![1, 0]));
        assert_eq!(named(&[over.clone(), Verdict::Runs]), Verdict::Runs);
        assert_eq!(named(&[Verdict::Waits, Verdict::Runs]), Verdict::Waits);
        assert_eq!(named(&[Verdict::Waits, stuck]), Verdict::Stuck("p: x".into()));
    }
}
