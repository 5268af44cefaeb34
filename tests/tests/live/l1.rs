//! The line: a node, a Deployment, answers, logs, and nothing left behind.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use samara_tests::load;
use samara_tests::manifest::PodSpec;
use samara_tests::node::condition;
use samara_tests::scene::{PATIENCE, Scene, container_state, pod_ip};
use samara_tests::traces::Traces;
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![
    the_node_is_ready_with_its_labels_and_its_taint,
    three_http_pods_become_ready_and_each_answers_on_its_own_address,
    the_api_servers_service_proxy_reaches_the_pods,
    kubectl_logs_shows_what_a_guest_printed,
    a_command_that_ends_well_makes_its_pod_succeed,
    events_tell_a_pods_story_in_the_kubelets_words,
    guests_of_every_kind_say_hello,
    a_deleted_deployment_leaves_nothing_behind,
];

async fn the_node_is_ready_with_its_labels_and_its_taint(scene: &Scene) -> Result<()> {
    let node = Api::<Node>::all(scene.cluster().client().clone()).get(scene.node().name()).await?;
    ensure!(condition(&node, "Ready").is_some_and(|(status, _)| status == "True"));
    for pressure in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
        let found = condition(&node, pressure);
        ensure!(found.is_some_and(|(status, _)| status == "False"), "{pressure} is {found:?}");
    }
    let labels = node.labels();
    for (key, value) in [
        ("kubernetes.io/arch", "wasm32"),
        ("kubernetes.io/os", "wasi"),
        ("samara.dev/wasm", "true"),
        ("kubernetes.io/hostname", scene.node().name()),
    ] {
        let found = labels.get(key).map(String::as_str);
        ensure!(found == Some(value), "label {key} is {found:?}, not {value:?}");
    }
    let spec = node.spec.unwrap_or_default();
    ensure!(spec.pod_cidr.is_some(), "no podCIDR");
    let taints = spec.taints.unwrap_or_default();
    let wasm = taints.iter().any(|taint| {
        taint.key == "kubernetes.io/arch" && taint.value.as_deref() == Some("wasm32") && taint.effect == "NoSchedule"
    });
    ensure!(wasm, "taints are {taints:?}");
    let status = node.status.unwrap_or_default();
    for list in [status.capacity, status.allocatable] {
        let list = list.unwrap_or_default();
        for resource in ["cpu", "memory", "pods", "ephemeral-storage"] {
            ensure!(list.contains_key(resource), "no {resource} in {list:?}");
        }
    }
    Ok(())
}

async fn three_http_pods_become_ready_and_each_answers_on_its_own_address(scene: &Scene) -> Result<()> {
    scene.apply_sample("http-hello").await?;
    let pods = scene.ready_pods("app=http-hello", 3).await?;
    let addresses: BTreeSet<_> = pods.iter().filter_map(pod_ip).collect();
    ensure!(addresses.len() == 3, "three pods have the addresses {addresses:?}");
    for pod in &pods {
        let ip = pod_ip(pod).context("no address")?.parse()?;
        let body = load::get(SocketAddr::new(ip, 8080), "/").await.context("ask the pod")?;
        ensure!(body == format!("hello from v1 on {}\n", pod.name_any()), "{} answered {body:?}", pod.name_any());
    }
    Ok(())
}

async fn the_api_servers_service_proxy_reaches_the_pods(scene: &Scene) -> Result<()> {
    scene.apply_sample("http-hello").await?;
    scene.ready_pods("app=http-hello", 3).await?;
    let load =
        load::Load::start(scene.cluster().client(), scene.namespace(), "http-hello", load::Way::ApiServer).await?;
    load.more(50).await?;
    let tally = load.finish().await;
    tally.no_failure()?;
    ensure!(tally.answers.len() == 3, "not every pod was asked: {:?}", tally.answers);
    Ok(())
}

async fn kubectl_logs_shows_what_a_guest_printed(scene: &Scene) -> Result<()> {
    scene
        .create::<Pod>(
            PodSpec::of("hello")
                .set(json!({ "restartPolicy": "Never" }))
                .main(json!({ "args": ["one", "two"] }))
                .pod("hello"),
        )
        .await?;
    scene.over("hello").await?;
    let log = scene.kubectl(&["logs", "hello"]).await?;
    ensure!(log == "hello from samara\nargument: one\nargument: two\n", "the log is {log:?}");
    Ok(())
}

async fn a_command_that_ends_well_makes_its_pod_succeed(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::of("hello").set(json!({ "restartPolicy": "Never" })).pod("hello")).await?;
    let pod = scene.over("hello").await?;
    let status = container_state(&pod, "hello").context("no container status")?;
    let end = status.state.as_ref().and_then(|state| state.terminated.as_ref()).context("not terminated")?;
    ensure!(end.exit_code == 0 && end.reason.as_deref() == Some("Completed"), "ended as {end:?}");
    ensure!(end.started_at <= end.finished_at, "ended before it began: {end:?}");
    ensure!(
        status.container_id.as_deref().is_some_and(|id| id.contains("://")),
        "container id {:?}",
        status.container_id
    );
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    ensure!(phase == Some("Succeeded"), "phase {phase:?}");
    Ok(())
}

async fn events_tell_a_pods_story_in_the_kubelets_words(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::of("hello").set(json!({ "restartPolicy": "Never" })).pod("hello")).await?;
    scene.over("hello").await?;
    let image = samara_tests::samples::image("hello");
    let pulled = scene.event("hello", "Pulled").await?;
    let known = pulled.starts_with(&format!("Successfully pulled image \"{image}\" in "))
        || pulled == format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
    ensure!(known, "Pulled: {pulled}");
    ensure!(scene.event("hello", "Created").await?.starts_with("Container created"));
    ensure!(scene.event("hello", "Started").await?.starts_with("Container started"));
    let events = scene.api::<Event>().list(&ListParams::default().fields("involvedObject.name=hello")).await?;
    for event in events.items.iter().filter(|event| event.reason.as_deref() != Some("Scheduled")) {
        let source = event.source.clone().unwrap_or_default();
        ensure!(source.component.as_deref() == Some("kubelet"), "{:?} comes from {source:?}", event.reason);
        ensure!(
            event.involved_object.field_path.as_deref() == Some("spec.containers{hello}"),
            "{:?}",
            event.involved_object
        );
    }
    Ok(())
}

async fn guests_of_every_kind_say_hello(scene: &Scene) -> Result<()> {
    for (sample, words) in [
        ("hello", "hello from samara"),
        ("hello-p2", "hello from samara"),
        ("go-hello", "hello from go on wasip1/wasm"),
    ] {
        scene.create::<Pod>(PodSpec::of(sample).set(json!({ "restartPolicy": "Never" })).pod(sample)).await?;
        scene.over(sample).await?;
        let log = scene.log(sample, &LogParams::default()).await?;
        ensure!(log.starts_with(words), "{sample} printed {log:?}");
    }
    Ok(())
}

async fn a_deleted_deployment_leaves_nothing_behind(scene: &Scene) -> Result<()> {
    scene.apply_sample("http-hello").await?;
    let pods = scene.ready_pods("app=http-hello", 3).await?;
    let scope = scene.cluster().site().cgroup();
    for pod in &pods {
        let there = Traces::of(scene.node(), &scope, &pod.uid().context("no UID")?)?;
        ensure!(there.processes.len() == 1, "a running pod has one process, not {:?}", there.processes);
        ensure!(!there.cgroups.is_empty() && !there.files.is_empty(), "a running pod has traces: {there:?}");
    }
    scene.delete::<Deployment>("http-hello").await?;
    for pod in &pods {
        let uid = pod.uid().context("no UID")?;
        until(format!("{} has left nothing", pod.name_any()), PATIENCE * 2, async || {
            let left = Traces::of(scene.node(), &scope, &uid)?;
            Ok(Seen::when(left.is_empty(), format!("{left:?}")))
        })
        .await?;
        let ip = pod_ip(pod).context("no address")?.parse()?;
        ensure!(load::get(SocketAddr::new(ip, 8080), "/").await.is_err(), "{ip} answers still");
    }
    Ok(())
}
