use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodReadinessGate, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::backoff::Delay;
use crate::fixtures::{ObservedExt, PodExt, at, exit, observed, pod, sized};
use crate::pod::{ContainerState, Exit, ObservedPod, Termination, Waiting, status};

fn web() -> Pod {
    pod("web").container("app")
}

fn fresh(pod: &Pod, observed: &ObservedPod, now: i64) -> PodStatus {
    status(pod, observed, &PodStatus::default(), at(now))
}

fn of<'a>(status: &'a PodStatus, name: &str) -> &'a ContainerStatus {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|container| container.name == name).unwrap()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap()
}

/// `running`, `waiting Reason: message`, `terminated 1 Reason`.
fn state(status: &ContainerStatus) -> String {
    words(status.state.as_ref().unwrap())
}

fn last(status: &ContainerStatus) -> String {
    words(status.last_state.as_ref().unwrap())
}

fn words(state: &k8s_openapi::api::core::v1::ContainerState) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if state.running.is_some() {
        "running".to_owned()
    } else if let Some(waiting) = &state.waiting {
        format!("waiting {}: {}", text(&waiting.reason), text(&waiting.message))
    } else if let Some(ended) = &state.terminated {
        format!("terminated {} {}", ended.exit_code, text(&ended.reason))
    } else {
        String::new()
    }
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap()
}

#[test]
fn a_new_pod_is_pending_and_creating() {
    let pod = web();
    insta::assert_yaml_snapshot!(fresh(&pod, &ObservedPod::new(at(0)), 0));
}

#[test]
fn a_ready_pod_tells_everything() {
    let limits = [("cpu", "500m"), ("memory", "64Mi")];
    let pod = pod("web").with(sized("app", &limits, &limits)).init("setup").sidecar("proxy");
    let observed = observed()
        .exits(&pod, "setup", 0, 0, 2)
        .runs(&pod, "proxy", 0, 3)
        .exits(&pod, "app", 0, 3, 5)
        .runs(&pod, "app", 1, 6);
    insta::assert_yaml_snapshot!(fresh(&pod, &observed, 7));
}

#[test]
fn phases_follow_the_containers() {
    let two = || web().container("log");
    let job = || web().restart("Never");
    let init = || web().init("setup");
    let cases: Vec<(&str, Pod, ObservedPod, &str)> = vec![
        ("nothing started", web(), observed(), "Pending"),
        ("one of two started", two(), observed().runs(&two(), "app", 0, 1), "Pending"),
        ("both run", two(), observed().runs(&two(), "app", 0, 1).runs(&two(), "log", 0, 1), "Running"),
        ("crashed, will be restarted", web(), observed().exits(&web(), "app", 0, 1, 2), "Running"),
        ("done, Always", web(), observed().exits(&web(), "app", 0, 0, 2), "Running"),
        ("done, Never", job(), observed().exits(&job(), "app", 0, 0, 2), "Succeeded"),
        ("failed, Never", job(), observed().exits(&job(), "app", 0, 1, 2), "Failed"),
        ("initializing", init(), observed().runs(&init(), "setup", 0, 1), "Pending"),
        ("initialized, not started", init(), observed().exits(&init(), "setup", 0, 0, 1), "Pending"),
        ("init failed for good", init().restart("Never"), observed().exits(&init(), "setup", 0, 1, 2), "Failed"),
        ("init failed, will be restarted", init(), observed().exits(&init(), "setup", 0, 1, 2), "Pending"),
    ];
    for (sentence, pod, observed, expected) in cases {
        assert_eq!(phase(&fresh(&pod, &observed, 3)), expected, "{sentence}");
    }
}

#[test]
fn a_sidecar_that_starts_anew_does_not_take_the_pod_back_to_pending() {
    let pod = web().sidecar("proxy");
    let before = observed().exits(&pod, "proxy", 0, 1, 4).runs(&pod, "app", 0, 2);
    assert_eq!(phase(&fresh(&pod, &before, 5)), "Running");
    let mut anew = before.runs(&pod, "proxy", 1, 5);
    if let ContainerState::Running(running) = &mut anew.containers.last_mut().unwrap().state {
        running.started = false;
    }
    assert_eq!(phase(&fresh(&pod, &anew, 6)), "Running");
    assert_eq!(condition(&fresh(&pod, &anew, 6), "Initialized").status, "True");
}

#[test]
fn a_crash_loop_is_told_with_delay_container_and_pod() {
    let pod = web();
    let mut observed = observed().exits(&pod, "app", 1, 3, 8);
    observed.delays.insert("app".to_owned(), Delay { duration: std::time::Duration::from_secs(10), set_at: at(5) });
    let told = fresh(&pod, &observed, 9);
    let app = of(&told, "app");
    assert_eq!(
        state(app),
        "waiting CrashLoopBackOff: back-off 10s restarting failed container=app pod=web_default(uid-web)"
    );
    assert_eq!(last(app), "terminated 3 Error");
    assert_eq!(app.restart_count, 1);
    assert_eq!(phase(&told), "Running");
    assert!(!app.ready);
}

#[test]
fn between_an_end_and_its_restart_the_end_is_told() {
    let pod = web();
    assert_eq!(state(of(&fresh(&pod, &observed().exits(&pod, "app", 0, 3, 8), 8), "app")), "terminated 3 Error");
}

#[test]
fn why_a_container_waits_is_told_word_for_word() {
    let pod = web();
    let mut observed = observed();
    let message = "configmap \"settings\" not found".to_owned();
    observed
        .waiting
        .insert("app".to_owned(), Waiting { reason: "CreateContainerConfigError", message, retry_at: Some(at(60)) });
    let told = fresh(&pod, &observed, 1);
    assert_eq!(state(of(&told, "app")), "waiting CreateContainerConfigError: configmap \"settings\" not found");
    assert_eq!(phase(&told), "Pending");
}

#[test]
fn an_end_has_the_reason_of_its_kind() {
    let pod = web().restart("Never");
    for (exit, expected) in [
        (exit(0, 5), "terminated 0 Completed"),
        (exit(134, 5), "terminated 134 Error"),
        (Exit { oom_killed: true, ..exit(137, 5) }, "terminated 137 OOMKilled"),
        (exit(137, 5), "terminated 137 Error"),
        (Exit { seen: false, ..exit(255, 5) }, "terminated 137 ContainerStatusUnknown"),
        (Exit { started_at: None, ..exit(128, 5) }, "terminated 128 StartError"),
    ] {
        let observed = observed().attempt(&pod, "app", 0, ContainerState::Exited(exit));
        assert_eq!(state(of(&fresh(&pod, &observed, 6), "app")), expected);
    }
}

#[test]
fn termination_messages_share_twelve_kibibytes() {
    let pod = web().container("log").restart("Never");
    let long = Exit { message: Some("ä".repeat(10_000)), ..exit(1, 5) };
    let observed = observed().attempt(&pod, "app", 0, ContainerState::Exited(long));
    let told = fresh(&pod, &observed, 6);
    let message = of(&told, "app").state.as_ref().unwrap().terminated.as_ref().unwrap().message.clone().unwrap();
    assert_eq!(message.len(), 6 * 1024);
}

#[test]
fn readiness_needs_every_container_and_every_gate() {
    let mut pod = web().container("log");
    let half = observed().runs(&pod, "app", 0, 1);
    let told = fresh(&pod, &half, 2);
    let ready = condition(&told, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [log]"));

    let all = half.runs(&pod, "log", 0, 2);
    assert_eq!(condition(&fresh(&pod, &all, 3), "Ready").status, "True");

    pod = pod.spec(|spec| spec.readiness_gates = Some(vec![PodReadinessGate { condition_type: "lb/up".to_owned() }]));
    let told = fresh(&pod, &all, 3);
    assert_eq!(condition(&told, "ContainersReady").status, "True");
    let ready = condition(&told, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert_eq!(
        ready.message.as_deref(),
        Some("corresponding condition of pod readiness gate \"lb/up\" does not exist.")
    );

    let gate =
        |status: &str| PodCondition { type_: "lb/up".to_owned(), status: status.to_owned(), ..PodCondition::default() };
    for (value, expected) in [("False", "False"), ("True", "True")] {
        pod.status = Some(PodStatus { conditions: Some(vec![gate(value)]), ..PodStatus::default() });
        let told = fresh(&pod, &all, 3);
        assert_eq!(condition(&told, "Ready").status, expected);
        assert_eq!(condition(&told, "lb/up"), &gate(value), "conditions of others are kept");
    }
}

#[test]
fn init_containers_that_are_not_done_are_named() {
    let pod = web().init("one").init("two");
    let told = fresh(&pod, &observed().exits(&pod, "one", 0, 0, 2), 3);
    let initialized = condition(&told, "Initialized");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [two]"));
    assert_eq!(state(of(&told, "app")), "waiting PodInitializing: ");
    assert!(of(&told, "one").ready);
}

#[test]
fn transition_times_change_only_with_the_status() {
    let pod = web();
    let first = fresh(&pod, &observed(), 1);
    let running = observed().runs(&pod, "app", 0, 4);
    let second = status(&pod, &running, &first, at(5));
    let third = status(&pod, &running, &second, at(9));
    assert_eq!(condition(&first, "Ready").last_transition_time, Some(Time(at(1))));
    assert_eq!(condition(&second, "Ready").last_transition_time, Some(Time(at(5))));
    assert_eq!(condition(&second, "PodScheduled").last_transition_time, Some(Time(at(1))));
    assert_eq!(third, second, "nothing changed, nothing to tell");
}

#[test]
fn the_observed_generation_never_goes_back() {
    let pod = web().change(|pod| pod.metadata.generation = Some(4));
    let told = fresh(&pod, &observed(), 1);
    assert_eq!(told.observed_generation, Some(4));
    assert!(condition(&told, "Ready").observed_generation == Some(4));
    let old = web().change(|pod| pod.metadata.generation = Some(3));
    assert_eq!(status(&old, &observed(), &told, at(2)).observed_generation, Some(4));
}

#[test]
fn no_terminal_phase_is_told_while_something_runs() {
    let pod = web().sidecar("proxy").restart("Never");
    let observed = observed().runs(&pod, "proxy", 0, 1).exits(&pod, "app", 0, 1, 5);
    assert_eq!(phase(&fresh(&pod, &observed, 6)), "Running");
    let evicted = Termination {
        reason: "Evicted",
        message: "The node was low on resource: memory.".to_owned(),
        requested_at: at(5),
        grace: None,
    };
    let web = web();
    let running = ObservedPod { termination: Some(evicted), ..self::observed().runs(&web, "app", 0, 1) };
    let told = status(&web, &running, &fresh(&web, &self::observed().runs(&web, "app", 0, 1), 2), at(6));
    assert_eq!((phase(&told), &told.reason), ("Running", &None));
}

#[test]
fn an_evicted_pod_is_failed_with_reason_message_and_disruption() {
    let pod = web();
    let evicted = Termination {
        reason: "Evicted",
        message: "The node was low on resource: memory.".to_owned(),
        requested_at: at(5),
        grace: None,
    };
    let seen = ObservedPod { termination: Some(evicted), ..observed().exits(&pod, "app", 0, 137, 7) };
    let told = fresh(&pod, &seen, 8);
    assert_eq!(phase(&told), "Failed");
    assert_eq!(told.reason.as_deref(), Some("Evicted"));
    assert_eq!(told.message.as_deref(), Some("The node was low on resource: memory."));
    assert_eq!(condition(&told, "Ready").reason.as_deref(), Some("PodFailed"));
    assert_eq!(condition(&told, "DisruptionTarget").reason.as_deref(), Some("TerminationByKubelet"));
}

#[test]
fn a_rejected_pod_says_only_why() {
    let rejected = Termination {
        reason: "OutOfcpu",
        message: "Pod was rejected: Node didn't have enough resource: cpu, requested: 1, used: 2, capacity: 3"
            .to_owned(),
        requested_at: at(0),
        grace: None,
    };
    let seen = ObservedPod { termination: Some(rejected.clone()), ..ObservedPod::new(at(0)) };
    let told = fresh(&web(), &seen, 0);
    assert_eq!(phase(&told), "Failed");
    assert_eq!(told.reason.as_deref(), Some(rejected.reason));
    assert_eq!(told.message, Some(rejected.message));
    assert_eq!(told.container_statuses, None);
    assert_eq!(status(&web(), &seen, &told, at(9)).reason.as_deref(), Some(rejected.reason), "it stays so");
}

#[test]
fn the_active_deadline_fails_a_pod() {
    let pod = web().spec(|spec| spec.active_deadline_seconds = Some(60));
    let told = fresh(&pod, &observed().exits(&pod, "app", 0, 143, 61), 61);
    assert_eq!(phase(&told), "Failed");
    assert_eq!(told.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(told.message.as_deref(), Some("Pod was active on the node longer than the specified deadline"));
}

#[test]
fn a_deleted_pod_ends_in_a_terminal_phase() {
    let deleted = web().deleted(at(40), 30);
    let ended = |code| fresh(&deleted, &observed().exits(&deleted, "app", 0, code, 12), 12);
    assert_eq!(phase(&ended(0)), "Succeeded");
    assert_eq!(phase(&ended(143)), "Failed");
    let never_started = fresh(&deleted, &observed(), 12);
    assert_eq!(phase(&never_started), "Failed");
    assert_eq!(state(of(&never_started, "app")), "terminated 137 ContainerStatusUnknown");
    let running = fresh(&deleted, &observed().runs(&deleted, "app", 0, 1), 12);
    assert_eq!(phase(&running), "Running");
}

#[test]
fn a_terminal_phase_is_kept_with_its_reason() {
    let previous = PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some("Evicted".to_owned()),
        message: Some("why".to_owned()),
        ..PodStatus::default()
    };
    let told = status(&web(), &observed(), &previous, at(5));
    assert_eq!(phase(&told), "Failed");
    assert_eq!((told.reason.as_deref(), told.message.as_deref()), (Some("Evicted"), Some("why")));
}

#[test]
fn restart_count_and_last_state_survive_the_loss_of_records() {
    let pod = web();
    let before = fresh(&pod, &observed().exits(&pod, "app", 3, 9, 5).runs(&pod, "app", 4, 6), 7);
    let lost = status(&pod, &observed(), &before, at(8));
    assert_eq!(state(of(&lost, "app")), "terminated 137 ContainerStatusUnknown");
    assert_eq!(of(&lost, "app").restart_count, 4);
    let again = status(&pod, &observed().runs(&pod, "app", 5, 9), &lost, at(9));
    assert_eq!(last(of(&again, "app")), "terminated 137 ContainerStatusUnknown");
    assert_eq!(of(&again, "app").restart_count, 5);
}

#[test]
fn a_host_network_pod_has_the_hosts_address() {
    let pod = web().spec(|spec| spec.host_network = Some(true));
    let told = fresh(&pod, &observed(), 1);
    assert_eq!(told.pod_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(told.host_ip.as_deref(), Some("192.0.2.1"));
}

#[test]
fn a_pod_that_is_over_keeps_its_address() {
    let pod = web().restart("Never");
    let done = observed().exits(&pod, "app", 0, 0, 5);
    let told = fresh(&pod, &done, 6);
    let taken_down = ObservedPod { sandbox: crate::pod::Sandbox::default(), ..done };
    assert_eq!(status(&pod, &taken_down, &told, at(7)).pod_ip.as_deref(), Some("10.0.0.7"));
}

#[test]
fn a_pod_without_spec_has_a_status() {
    assert_eq!(phase(&fresh(&Pod::default(), &ObservedPod::new(at(0)), 1)), "Pending");
}
