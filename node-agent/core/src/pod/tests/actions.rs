use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, ContainerState as ToldState,
    ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod, PodStatus, Probe,
};

use crate::backoff::{Backoff, Delay};
use crate::fixtures::{ObservedExt, PodExt, at, container, exit, observed, pod};
use crate::pod::{
    ContainerKind, ContainerState, Failure, KillReason, ObservedPod, PodActions, Stopping, Termination, Waiting,
    compute,
};

/// `start app#0`, `kill app#0 (reason, 30s): message`, `wait 10`, `back off app`, `sandbox`, `finished`.
fn steps(actions: &PodActions) -> Vec<String> {
    let mut steps = Vec::new();
    steps.extend(actions.make_sandbox.then(|| "sandbox".to_owned()));
    for kill in &actions.kill {
        let seconds = kill.grace.as_secs();
        steps.push(format!("kill {}#{} ({:?}, {seconds}s): {}", kill.name, kill.attempt, kill.reason, kill.message));
    }
    steps.extend(actions.start.iter().map(|start| format!("start {}#{}", start.name, start.attempt)));
    steps.extend(actions.backing_off.iter().map(|name| format!("back off {name}")));
    steps.extend(actions.wake_at.map(|wake| format!("wait {}", wake.as_second() - at(0).as_second())));
    steps.extend(actions.finished.then(|| "finished".to_owned()));
    steps
}

#[track_caller]
fn check(pod: &Pod, observed: &ObservedPod, now: i64, expected: &[&str]) {
    assert_eq!(steps(&compute(pod, observed, &PodStatus::default(), at(now))), expected);
}

fn web() -> Pod {
    pod("web").container("app")
}

/// The same attempt, changed.
fn running(mut observed: ObservedPod, name: &str, change: impl FnOnce(&mut crate::pod::Running)) -> ObservedPod {
    let found = observed.containers.iter_mut().find(|container| container.name == name).unwrap();
    match &mut found.state {
        ContainerState::Running(running) => change(running),
        ContainerState::Created | ContainerState::Exited(_) => panic!("{name} does not run"),
    }
    observed
}

fn delayed(mut observed: ObservedPod, name: &str, seconds: u64, set_at: i64) -> ObservedPod {
    observed.delays.insert(name.to_owned(), Delay { duration: Duration::from_secs(seconds), set_at: at(set_at) });
    observed
}

#[test]
fn a_new_pod_gets_its_sandbox_and_all_its_containers_at_once() {
    let pod = web().container("log");
    check(&pod, &ObservedPod::new(at(0)), 0, &["sandbox", "start app#0", "start log#0"]);
}

#[test]
fn what_runs_is_left_alone() {
    let pod = web();
    check(&pod, &observed().runs(&pod, "app", 3, 1), 5, &[]);
}

#[test]
fn the_first_crash_restarts_at_once_and_sets_ten_seconds() {
    let pod = web();
    let observed = observed().exits(&pod, "app", 0, 1, 5);
    let actions = compute(&pod, &observed, &PodStatus::default(), at(5));
    assert_eq!(steps(&actions), ["start app#1"]);
    assert_eq!(actions.start[0].delay, Some(Delay { duration: Duration::from_secs(10), set_at: at(5) }));
}

#[test]
fn restart_waits_ten_seconds_after_the_second_crash() {
    let pod = web();
    let observed = delayed(observed().exits(&pod, "app", 1, 1, 8), "app", 10, 5);
    check(&pod, &observed, 9, &["back off app", "wait 18"]);
    let actions = compute(&pod, &observed, &PodStatus::default(), at(18));
    assert_eq!(steps(&actions), ["start app#2"]);
    assert_eq!(actions.start[0].delay.unwrap().duration, Duration::from_secs(20));
}

#[test]
fn the_delay_is_capped_at_five_minutes_and_forgotten_after_ten_of_running() {
    let pod = web();
    let crashed = |set_at, finished| delayed(observed().exits(&pod, "app", 9, 1, finished), "app", 300, set_at);
    check(&pod, &crashed(0, 10), 11, &["back off app", "wait 310"]);
    let next = compute(&pod, &crashed(0, 10), &PodStatus::default(), at(310)).start[0].delay.unwrap();
    assert_eq!(next.duration, Duration::from_secs(300));
    let after_ten_minutes = compute(&pod, &crashed(0, 601), &PodStatus::default(), at(601));
    assert_eq!(steps(&after_ten_minutes), ["start app#10"]);
    assert_eq!(after_ten_minutes.start[0].delay.unwrap().duration, Duration::from_secs(10));
}

#[test]
fn the_restart_policy_decides_by_exit_code() {
    for (policy, code, expected) in [
        ("Always", 0, vec!["start app#1"]),
        ("Always", 1, vec!["start app#1"]),
        ("OnFailure", 0, vec!["finished"]),
        ("OnFailure", 1, vec!["start app#1"]),
        ("Never", 0, vec!["finished"]),
        ("Never", 1, vec!["finished"]),
    ] {
        let pod = web().restart(policy);
        let actions = compute(&pod, &observed().exits(&pod, "app", 0, code, 5), &PodStatus::default(), at(5));
        assert_eq!(steps(&actions), expected, "{policy} {code}");
    }
}

#[test]
fn a_container_may_have_a_policy_and_rules_of_its_own() {
    let rule = ContainerRestartRule {
        action: "Restart".to_owned(),
        exit_codes: Some(ContainerRestartRuleOnExitCodes { operator: "In".to_owned(), values: Some(vec![42]) }),
    };
    let own = Container {
        restart_policy: Some("Never".to_owned()),
        restart_policy_rules: Some(vec![rule]),
        ..container("app")
    };
    let pod = pod("web").with(own);
    check(&pod, &observed().exits(&pod, "app", 0, 1, 5), 5, &["finished"]);
    check(&pod, &observed().exits(&pod, "app", 0, 42, 5), 5, &["start app#1"]);
}

#[test]
fn a_pod_goes_on_while_one_of_its_containers_does() {
    let pod = web().container("log").restart("Never");
    let observed = observed().exits(&pod, "app", 0, 0, 5);
    check(&pod, &observed.clone().runs(&pod, "log", 0, 1), 6, &[]);
    check(&pod, &observed.exits(&pod, "log", 0, 1, 6), 6, &["finished"]);
}

#[test]
fn a_failed_effect_is_tried_again_when_it_said() {
    let pod = web();
    let mut observed = observed();
    let waiting = Waiting { reason: "ErrImagePull", message: "no".to_owned(), retry_at: Some(at(20)) };
    observed.waiting.insert("app".to_owned(), waiting);
    check(&pod, &observed, 10, &["wait 20"]);
    check(&pod, &observed, 20, &["start app#0"]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = web().init("one").init("two");
    check(&pod, &observed(), 0, &["start one#0"]);
    check(&pod, &observed().runs(&pod, "one", 0, 1), 2, &[]);
    let one_done = observed().exits(&pod, "one", 0, 0, 3);
    check(&pod, &one_done, 3, &["start two#0"]);
    check(&pod, &one_done.clone().exits(&pod, "two", 0, 0, 4), 4, &["start app#0"]);
    // The record of the first may be gone: the second's proves that it completed.
    check(&pod, &observed().exits(&pod, "two", 0, 0, 4), 4, &["start app#0"]);
    check(&pod, &observed().runs(&pod, "app", 0, 5), 6, &[]);
}

#[test]
fn a_failed_init_container_is_restarted_or_ends_the_pod() {
    let failing = web().init("one").sidecar("proxy").init("two");
    let seen = observed().exits(&failing, "one", 0, 0, 2).runs(&failing, "proxy", 0, 3).exits(&failing, "two", 0, 7, 4);
    check(&failing, &seen, 4, &["start two#1"]);
    let never = failing.restart("Never");
    check(&never, &seen, 4, &["kill proxy#0 (PodTerminating, 30s): Stopping container proxy"]);
}

#[test]
fn a_completed_init_container_is_not_run_again_for_its_new_image() {
    let pod = web().init("one").init("two");
    let observed = observed().exits(&pod, "one", 0, 0, 2).runs(&pod, "two", 0, 3);
    let changed = pod.spec(|spec| spec.init_containers.as_mut().unwrap()[0].image = Some("other".to_owned()));
    check(&changed, &observed, 4, &[]);
}

#[test]
fn what_follows_a_sidecar_waits_until_it_started() {
    let pod = web().sidecar("proxy");
    check(&pod, &observed(), 0, &["start proxy#0"]);
    let started = observed().runs(&pod, "proxy", 0, 1);
    let starting = running(started.clone(), "proxy", |running| running.started = false);
    check(&pod, &starting, 2, &[]);
    check(&pod, &started, 2, &["start app#0"]);
}

#[test]
fn a_sidecar_is_restarted_whatever_the_pods_policy() {
    let pod = web().sidecar("proxy").restart("Never");
    let observed = observed().exits(&pod, "proxy", 0, 0, 5).runs(&pod, "app", 0, 2);
    check(&pod, &observed, 5, &["start proxy#1"]);
}

#[test]
fn sidecars_do_not_keep_a_pod_going() {
    let pod = web().sidecar("proxy").restart("Never");
    let observed = observed().runs(&pod, "proxy", 0, 1).exits(&pod, "app", 0, 0, 5);
    check(&pod, &observed, 5, &["kill proxy#0 (PodTerminating, 30s): Stopping container proxy"]);
}

#[test]
fn sidecars_end_after_the_containers_and_in_reverse() {
    let pod = web().sidecar("first").sidecar("last").deleted(at(40), 30);
    let all = observed().runs(&pod, "first", 0, 1).runs(&pod, "last", 0, 2).runs(&pod, "app", 0, 3);
    let mut seen = ObservedPod { terminating_at: Some(at(10)), ..all };
    check(&pod, &seen, 10, &["kill app#0 (PodTerminating, 30s): Stopping container app", "wait 40"]);
    seen.containers.remove(2);
    let mut seen = seen.exits(&pod, "app", 0, 0, 12);
    check(&pod, &seen, 12, &["kill last#0 (PodTerminating, 28s): Stopping container last", "wait 40"]);
    seen.containers.remove(1);
    let seen = seen.exits(&pod, "last", 0, 143, 20);
    check(&pod, &seen, 20, &["kill first#0 (PodTerminating, 20s): Stopping container first"]);
}

#[test]
fn when_the_grace_is_over_sidecars_no_longer_wait_for_their_turn() {
    let pod = web().sidecar("proxy").deleted(at(40), 30);
    let seen = observed().runs(&pod, "proxy", 0, 1).runs(&pod, "app", 0, 3);
    let stopping = Stopping { since: at(10), grace: Duration::from_secs(30) };
    let seen = running(seen, "app", |running| running.stopping = Some(stopping));
    let seen = ObservedPod { terminating_at: Some(at(10)), ..seen };
    check(&pod, &seen, 20, &["wait 40"]);
    check(&pod, &seen, 41, &["kill proxy#0 (PodTerminating, 2s): Stopping container proxy"]);
}

#[test]
fn an_end_is_asked_for_once_and_again_only_to_be_sooner() {
    let stopping = Stopping { since: at(10), grace: Duration::from_secs(30) };
    let pod = web().deleted(at(40), 30);
    let seen = running(observed().runs(&pod, "app", 0, 1), "app", |running| running.stopping = Some(stopping));
    let seen = ObservedPod { terminating_at: Some(at(10)), ..seen };
    check(&pod, &seen, 15, &[]);
    let sooner = web().deleted(at(20), 5);
    check(&sooner, &seen, 15, &["kill app#0 (PodTerminating, 2s): Stopping container app"]);
}

#[test]
fn a_deleted_pod_is_finished_when_nothing_of_it_runs() {
    let pod = web().deleted(at(40), 30);
    check(&pod, &observed(), 10, &["finished"]);
    check(&pod, &observed().exits(&pod, "app", 0, 143, 12), 12, &["finished"]);
}

#[test]
fn the_active_deadline_ends_a_pod() {
    let pod = web().spec(|spec| spec.active_deadline_seconds = Some(60));
    let seen = observed().runs(&pod, "app", 0, 1);
    check(&pod, &seen, 59, &["wait 60"]);
    check(&pod, &seen, 60, &["kill app#0 (PodTerminating, 30s): Stopping container app"]);
}

#[test]
fn the_shortest_of_the_graces_that_were_said_counts() {
    let mut seen = observed().runs(&web(), "app", 0, 1);
    let termination =
        |grace| Termination { reason: "Evicted", message: "too much".to_owned(), requested_at: at(5), grace };
    seen.termination = Some(termination(None));
    check(&web(), &seen, 5, &["kill app#0 (PodTerminating, 30s): Stopping container app"]);
    seen.termination = Some(termination(Some(Duration::from_secs(4))));
    check(&web(), &seen, 5, &["kill app#0 (PodTerminating, 4s): Stopping container app"]);
    check(&web().deleted(at(8), 3), &seen, 5, &["kill app#0 (PodTerminating, 3s): Stopping container app"]);
    seen.termination = Some(termination(Some(Duration::ZERO)));
    check(&web(), &seen, 5, &["kill app#0 (PodTerminating, 2s): Stopping container app"]);
}

#[test]
fn a_new_image_ends_the_container_and_starts_it_whatever_the_policy() {
    let old = web().restart("Never");
    let new = old.clone().spec(|spec| spec.containers[0].image = Some("reg.example/app:2".to_owned()));
    let seen = delayed(observed().runs(&old, "app", 0, 1), "app", 300, 0);
    check(&new, &seen, 5, &["kill app#0 (SpecChanged, 30s): Container app definition changed, will be restarted"]);
    let killed = crate::pod::Exit { killed: Some(KillReason::SpecChanged), ..exit(143, 7) };
    let mut seen = observed().attempt(&old, "app", 0, ContainerState::Exited(killed));
    seen.delays.insert("app".to_owned(), Delay { duration: Duration::from_secs(300), set_at: at(0) });
    check(&new, &seen, 7, &["start app#1"]);
    check(&new, &observed().exits(&old, "app", 0, 0, 7), 7, &["finished"]);
}

#[test]
fn failed_probes_end_the_container_with_their_own_grace() {
    let probed = Container {
        liveness_probe: Some(Probe { termination_grace_period_seconds: Some(5), ..Probe::default() }),
        ..container("app")
    };
    let failing = |pod: &Pod, failure| {
        running(observed().runs(pod, "app", 0, 1), "app", |running| running.failure = Some(failure))
    };
    let pod = pod("web").with(probed);
    let live = failing(&pod, Failure::Liveness);
    check(&pod, &live, 9, &["kill app#0 (LivenessProbe, 5s): Container app failed liveness probe, will be restarted"]);
    let startup = failing(&pod, Failure::Startup);
    check(
        &pod,
        &startup,
        9,
        &["kill app#0 (StartupProbe, 30s): Container app failed startup probe, will be restarted"],
    );
    let hook = failing(&pod, Failure::PostStartHook);
    check(&pod, &hook, 9, &["kill app#0 (PostStartHook, 30s): FailedPostStartHook"]);
    let never = pod.restart("Never");
    check(&never, &live, 9, &["kill app#0 (LivenessProbe, 5s): Container app failed liveness probe"]);
}

#[test]
fn leftovers_are_removed_without_grace() {
    let pod = web();
    let two = observed().runs(&pod, "app", 0, 1).runs(&pod, "app", 1, 2);
    check(&pod, &two, 3, &["kill app#0 (Leftover, 0s): "]);
    let made = observed().attempt(&pod, "app", 0, ContainerState::Created);
    check(&pod, &made, 3, &["kill app#0 (Leftover, 0s): ", "start app#1"]);
}

#[test]
fn a_terminal_phase_that_was_told_is_final() {
    for phase in ["Succeeded", "Failed"] {
        let previous = PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
        let actions = compute(&web(), &observed(), &previous, at(5));
        assert_eq!(steps(&actions), ["finished"]);
    }
}

fn told(state: ToldState, restarts: i32) -> PodStatus {
    PodStatus {
        phase: Some("Running".to_owned()),
        container_statuses: Some(vec![ContainerStatus {
            name: "app".to_owned(),
            container_id: Some("samara://gone".to_owned()),
            restart_count: restarts,
            state: Some(state),
            ..ContainerStatus::default()
        }]),
        ..PodStatus::default()
    }
}

#[test]
fn an_attempt_that_was_told_of_and_is_gone_counts_as_failed() {
    let was_running = || told(ToldState { running: Some(ContainerStateRunning::default()), ..ToldState::default() }, 4);
    let actions = compute(&web(), &observed(), &was_running(), at(5));
    assert_eq!(steps(&actions), ["start app#5"]);
    let actions = compute(&web().restart("Never"), &observed(), &was_running(), at(5));
    assert_eq!(steps(&actions), ["finished"]);
}

#[test]
fn an_end_that_was_told_and_whose_record_is_gone_is_not_run_again() {
    let ended = ContainerStateTerminated { exit_code: 0, ..ContainerStateTerminated::default() };
    let previous = told(ToldState { terminated: Some(ended), ..ToldState::default() }, 0);
    let pod = web().container("log").restart("OnFailure");
    let actions = compute(&pod, &observed(), &previous, at(5));
    assert_eq!(steps(&actions), ["start log#0"]);
}

#[test]
fn after_a_reboot_init_containers_do_not_run_for_containers_that_will_not() {
    let was_running = || told(ToldState { running: Some(ContainerStateRunning::default()), ..ToldState::default() }, 0);
    let done = ContainerStateTerminated { exit_code: 0, ..ContainerStateTerminated::default() };
    let was_done = || told(ToldState { terminated: Some(done.clone()), ..ToldState::default() }, 0);
    for (policy, told, expected) in [
        ("Never", was_running(), vec!["finished"]),
        ("Never", was_done(), vec!["finished"]),
        ("OnFailure", was_done(), vec!["finished"]),
        ("OnFailure", was_running(), vec!["sandbox", "start setup#0"]),
        ("Always", was_done(), vec!["sandbox", "start setup#0"]),
    ] {
        let pod = web().init("setup").sidecar("proxy").restart(policy);
        let actions = compute(&pod, &ObservedPod::new(at(0)), &told, at(5));
        assert_eq!(steps(&actions), expected, "{policy} {told:?}");
    }
}

#[test]
fn a_pod_without_spec_has_nothing_to_do() {
    check(&Pod::default(), &ObservedPod::new(at(0)), 1, &["finished"]);
}

#[test]
fn kinds_are_told_to_the_effects() {
    let pod = web().init("one");
    let start = compute(&pod, &observed(), &PodStatus::default(), at(0)).start;
    assert_eq!(start[0].kind, ContainerKind::Init);
}

#[test]
fn a_node_with_a_lower_cap_waits_no_longer_than_that_for_a_restart() {
    let web = pod("web").container("app");
    let mut seen = delayed(observed().exits(&web, "app", 0, 1, 10), "app", 4, 5);
    seen.restart_backoff = Backoff::capped_at(Duration::from_secs(4));
    let at_once = compute(&web, &seen, &PodStatus::default(), at(11));
    assert_eq!((at_once.start.len(), at_once.wake_at), (0, Some(at(14))));
    let later = compute(&web, &seen, &PodStatus::default(), at(14));
    assert_eq!(later.start[0].delay.map(|delay| delay.duration), Some(Duration::from_secs(4)));
}
