//! Ends, restarts and back-off.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt as _;
use kube::api::LogParams;
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{Scene, container_state};
use samara_tests::traces::Traces;
use serde_json::json;

use crate::trial::tests;

tests![
    a_crashing_container_backs_off_ten_seconds_then_twenty_and_counts,
    an_exit_code_is_the_guests_own,
    a_trap_is_134_with_a_readable_backtrace,
    on_failure_restarts_a_failed_container_and_not_a_finished_one,
    never_restarts_nothing,
    init_containers_run_one_after_another_before_the_others,
    previous_logs_are_those_of_the_run_before,
];

/// How a pod's container ended, at last.
fn end(pod: &Pod, container: &str) -> Option<ContainerStateTerminated> {
    let status = container_state(pod, container)?;
    let now = status.state.as_ref().and_then(|state| state.terminated.clone());
    now.or_else(|| status.last_state.as_ref().and_then(|state| state.terminated.clone()))
}

async fn a_crashing_container_backs_off_ten_seconds_then_twenty_and_counts(scene: &Scene) -> Result<()> {
    scene.apply_sample("crash-loop").await?;
    let mut ends = Vec::new();
    // The first restart is made at once; the back-off begins with the second.
    for restarts in 1..4 {
        let pod = scene
            .pod_until("crash-loop", &format!("is in CrashLoopBackOff after {restarts} restarts"), |pod| {
                container_state(pod, "crash-loop").is_some_and(|status| {
                    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
                    status.restart_count == restarts
                        && waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
                })
            })
            .await?;
        let end = end(&pod, "crash-loop").context("no last state")?;
        ensure!(end.exit_code == 1 && end.reason.as_deref() == Some("Error"), "ended as {end:?}");
        ends.push(end);
    }
    for (window, least) in ends.windows(2).zip([10.0, 20.0]) {
        let [first, second] = window else { continue };
        let (Some(ended), Some(began)) = (&first.finished_at, &second.started_at) else { continue };
        let pause = began.0.duration_since(ended.0).as_secs_f64();
        // Times of the API have whole seconds.
        ensure!(pause >= least - 1.0 && pause <= least + 4.0, "the pause was {pause} s, not {least} s");
    }
    let message = scene.event("crash-loop", "BackOff").await?;
    ensure!(message.starts_with("Back-off restarting failed container crash-loop in pod crash-loop_"), "{message}");
    Ok(())
}

async fn an_exit_code_is_the_guests_own(scene: &Scene) -> Result<()> {
    scene.apply_sample("exit-code").await?;
    let pod = scene.over("exit-code").await?;
    let end = end(&pod, "exit-code").context("not terminated")?;
    ensure!(end.exit_code == 42 && end.reason.as_deref() == Some("Error"), "ended as {end:?}");
    let phase = pod.status.and_then(|status| status.phase);
    ensure!(phase.as_deref() == Some("Failed"), "phase {phase:?}");
    Ok(())
}

async fn a_trap_is_134_with_a_readable_backtrace(scene: &Scene) -> Result<()> {
    let spec = PodSpec::of("exit-code").main(json!({ "args": ["trap"] })).set(json!({ "restartPolicy": "Never" }));
    scene.create::<Pod>(spec.pod("trap")).await?;
    let pod = scene.over("trap").await?;
    let end = end(&pod, "exit-code").context("not terminated")?;
    ensure!(end.exit_code == 134, "ended as {end:?}");
    let log = scene.log("trap", &LogParams::default()).await?;
    let frames = log.lines().filter(|line| line.contains(": ") && line.contains(" 0x")).count();
    ensure!(log.contains("wasm `unreachable` instruction executed") && frames > 0, "the log does not tell:\n{log}");
    Ok(())
}

async fn on_failure_restarts_a_failed_container_and_not_a_finished_one(scene: &Scene) -> Result<()> {
    let failing = samara_tests::manifest::with(
        samara_tests::manifest::container("failing", "exit-code"),
        json!({ "args": ["3"] }),
    );
    let finished = samara_tests::manifest::container("finished", "hello");
    scene
        .create::<Pod>(
            PodSpec::containers([failing, finished]).set(json!({ "restartPolicy": "OnFailure" })).pod("pair"),
        )
        .await?;
    let pod = scene
        .pod_until("pair", "has restarted the failing one after the other has finished", |pod| {
            let restarted = container_state(pod, "failing").is_some_and(|status| status.restart_count > 0);
            restarted && end(pod, "finished").is_some()
        })
        .await?;
    let finished = container_state(&pod, "finished").context("no status")?;
    ensure!(finished.restart_count == 0, "the finished one was restarted {} times", finished.restart_count);
    let reason = end(&pod, "finished").and_then(|end| end.reason);
    ensure!(reason.as_deref() == Some("Completed"), "the finished one: {reason:?}");
    Ok(())
}

async fn never_restarts_nothing(scene: &Scene) -> Result<()> {
    let spec = PodSpec::of("exit-code").main(json!({ "args": ["7"] })).set(json!({ "restartPolicy": "Never" }));
    scene.create::<Pod>(spec.pod("once")).await?;
    let pod = scene.over("once").await?;
    let status = container_state(&pod, "exit-code").context("no status")?;
    ensure!(status.restart_count == 0 && end(&pod, "exit-code").is_some_and(|end| end.exit_code == 7), "{status:?}");
    Ok(())
}

async fn init_containers_run_one_after_another_before_the_others(scene: &Scene) -> Result<()> {
    let step = |name: &str| {
        let fields = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
        samara_tests::manifest::with(samara_tests::manifest::container(name, "read-write"), fields)
    };
    let spec = PodSpec::containers([step("main")]).set(json!({
        "restartPolicy": "Never",
        "initContainers": [step("first"), step("second")],
        "volumes": [{ "name": "data", "emptyDir": {} }],
    }));
    scene.create::<Pod>(spec.pod("steps")).await?;
    let pod = scene.over("steps").await?;
    for (container, run) in [("first", "run 1"), ("second", "run 2"), ("main", "run 3")] {
        let log = scene.log("steps", &LogParams { container: Some(container.into()), ..LogParams::default() }).await?;
        ensure!(log.starts_with(run), "{container} printed {log:?}, not {run:?}");
        ensure!(end(&pod, container).is_some_and(|end| end.exit_code == 0), "{container} did not end well");
    }
    Ok(())
}

async fn previous_logs_are_those_of_the_run_before(scene: &Scene) -> Result<()> {
    scene.apply_sample("spin-cpu").await?;
    let uid = scene.ready("spin-cpu").await?.uid().context("no UID")?;
    let first = scene.log_with("spin-cpu", "rounds").await?;
    let traces = Traces::of(scene.node(), &scene.cluster().site().cgroup(), &uid)?;
    traces.processes.iter().try_for_each(|id| id.kill())?;
    scene
        .pod_until("spin-cpu", "runs for the second time", |pod| {
            let status = container_state(pod, "spin-cpu").filter(|status| status.restart_count == 1);
            status.and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some())
        })
        .await?;
    let before = scene.kubectl(&["logs", "--previous", "spin-cpu"]).await?;
    let now = scene.kubectl(&["logs", "spin-cpu"]).await?;
    ensure!(before.starts_with(&first), "the first run printed {first:?}, its log is {before:?}");
    ensure!(!now.starts_with(&first), "the second run's log is the first one's: {now:?}");
    Ok(())
}
