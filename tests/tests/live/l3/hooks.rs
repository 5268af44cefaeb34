//! Hooks by every means, and what probes wait for.

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use samara_tests::cluster::addresses::CONTROL_PLANE;
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{PATIENCE, Scene, container_state};
use samara_tests::wait::{Seen, until};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::trial::tests;

tests![
    a_post_start_command_runs_before_the_pod_is_ready,
    a_post_start_command_that_fails_ends_the_container,
    a_pre_stop_command_runs_before_the_end,
    an_exec_probe_decides_by_its_exit_code,
    a_tcp_probe_waits_for_the_guests_socket,
    a_guest_that_listens_is_ready_long_before_a_period_of_its_probes,
    http_hooks_ask_at_the_beginning_and_at_the_end,
    a_post_start_sleep_is_over_before_the_pod_is_ready,
];

fn toolbox(fields: serde_json::Value) -> PodSpec {
    PodSpec::of("toolbox").main(fields)
}

async fn a_post_start_command_runs_before_the_pod_is_ready(scene: &Scene) -> Result<()> {
    let fields = json!({
        "lifecycle": { "postStart": { "exec": { "command": ["mkdir", "/data/started"] } } },
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    scene
        .create::<Pod>(toolbox(fields).set(json!({ "volumes": [{ "name": "data", "emptyDir": {} }] })).pod("box"))
        .await?;
    scene.ready("box").await?;
    let listed = scene.kubectl(&["exec", "box", "--", "ls", "/data"]).await?;
    ensure!(listed.contains("started"), "{listed:?}");
    Ok(())
}

async fn a_post_start_command_that_fails_ends_the_container(scene: &Scene) -> Result<()> {
    let fields = json!({ "lifecycle": { "postStart": { "exec": { "command": ["false"] } } } });
    scene.create::<Pod>(toolbox(fields).pod("box")).await?;
    let message = scene.event("box", "FailedPostStartHook").await?;
    ensure!(message.contains("PostStartHook failed"), "{message}");
    scene
        .pod_until("box", "was restarted", |pod| {
            container_state(pod, "toolbox").is_some_and(|status| status.restart_count > 0)
        })
        .await?;
    Ok(())
}

async fn a_pre_stop_command_runs_before_the_end(scene: &Scene) -> Result<()> {
    let dir = scene.cluster().site().data_dir().join(format!("hook-{}", scene.namespace()));
    let fields = json!({
        "lifecycle": { "preStop": { "exec": { "command": ["mkdir", "/data/stopped"] } } },
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        "securityContext": { "runAsUser": 0 },
    });
    let volumes = json!({ "volumes": [{ "name": "data", "hostPath": { "path": dir, "type": "DirectoryOrCreate" } }] });
    scene.create::<Pod>(toolbox(fields).set(volumes).pod("box")).await?;
    scene.ready("box").await?;
    scene.api::<Pod>().delete("box", &DeleteParams::default()).await?;
    until("the hook has run", PATIENCE, async || Ok(Seen::when(dir.join("stopped").is_dir(), "no directory"))).await
}

async fn an_exec_probe_decides_by_its_exit_code(scene: &Scene) -> Result<()> {
    let fields = json!({
        "readinessProbe": { "exec": { "command": ["cat", "/data/ready"] }, "periodSeconds": 1, "timeoutSeconds": 5 },
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    let dir = scene.cluster().site().data_dir().join(format!("probe-{}", scene.namespace()));
    let volumes = json!({ "volumes": [{ "name": "data", "hostPath": { "path": dir, "type": "DirectoryOrCreate" } }] });
    scene.create::<Pod>(toolbox(fields).set(volumes).pod("box")).await?;
    let message = scene.event("box", "Unhealthy").await?;
    ensure!(message.starts_with("Readiness probe failed:"), "{message}");
    std::fs::write(dir.join("ready"), "yes").context("make it ready")?;
    scene.ready("box").await?;
    Ok(())
}

async fn a_tcp_probe_waits_for_the_guests_socket(scene: &Scene) -> Result<()> {
    scene.apply_sample("tcp-echo").await?;
    let pod = scene.ready("tcp-echo").await?;
    let status = container_state(&pod, "tcp-echo").context("no status")?;
    ensure!(status.restart_count == 0 && status.started == Some(true), "{status:?}");
    let deaf = json!({ "readinessProbe": { "tcpSocket": { "port": 7001 }, "periodSeconds": 1 } });
    scene.create::<Pod>(PodSpec::of("tcp-echo").main(deaf).pod("deaf")).await?;
    let message = scene.event("deaf", "Unhealthy").await?;
    ensure!(message.contains("connection refused"), "{message}");
    Ok(())
}

async fn a_guest_that_listens_is_ready_long_before_a_period_of_its_probes(scene: &Scene) -> Result<()> {
    // Each of the two would cost a period if its first try came before the guest listens.
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 100 });
    scene
        .create::<Pod>(PodSpec::web().main(json!({ "startupProbe": probe, "readinessProbe": probe })).pod("eager"))
        .await?;
    let pod = scene.ready("eager").await?;
    let took = ready_after_start(&pod, "http-hello")?;
    ensure!(took.as_secs() <= 5, "ready {took} after its start");
    Ok(())
}

/// From the container's start to the pod's readiness.
fn ready_after_start(pod: &Pod, container: &str) -> Result<SignedDuration> {
    let status = container_state(pod, container).context("no status")?;
    let running = status.state.as_ref().and_then(|state| state.running.as_ref()).context("it does not run")?;
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.filter(|one| one.type_ == "Ready").find_map(|one| one.last_transition_time.as_ref());
    Ok(ready.context("never ready")?.0.duration_since(running.started_at.as_ref().context("never started")?.0))
}

async fn http_hooks_ask_at_the_beginning_and_at_the_end(scene: &Scene) -> Result<()> {
    let listener = TcpListener::bind((CONTROL_PLANE, 0)).await?;
    let port = listener.local_addr()?.port();
    let asked = watch::Sender::new(Vec::<String>::new());
    let seen = asked.subscribe();
    let answer = move |request: axum::extract::Request| async move {
        asked.send_modify(|asked| asked.push(request.uri().to_string()));
    };
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });

    let hook = |path: &str| json!({ "httpGet": { "host": CONTROL_PLANE, "port": port, "path": path } });
    let hooks = json!({ "lifecycle": { "postStart": hook("/begins?now"), "preStop": hook("/ends") } });
    scene.create::<Pod>(toolbox(hooks).pod("box")).await?;
    scene.ready("box").await?;
    ensure!(*seen.borrow() == ["/begins?now"], "asked for {:?}", *seen.borrow());
    scene.delete::<Pod>("box").await?;
    ensure!(*seen.borrow() == ["/begins?now", "/ends"], "asked for {:?}", *seen.borrow());
    Ok(())
}

async fn a_post_start_sleep_is_over_before_the_pod_is_ready(scene: &Scene) -> Result<()> {
    let hook = json!({ "lifecycle": { "postStart": { "sleep": { "seconds": 2 } } } });
    scene.create::<Pod>(toolbox(hook).pod("box")).await?;
    let pod = scene.ready("box").await?;
    let took = ready_after_start(&pod, "toolbox")?;
    // Both times are whole seconds.
    ensure!((1..=20).contains(&took.as_secs()), "ready {took} after its start");
    Ok(())
}
