//! Pods in the node's own network.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use samara_tests::load;
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{PATIENCE, Scene, pod_ip};
use samara_tests::traces::Traces;
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![a_pod_of_the_hosts_network_answers_at_the_nodes_address_and_leaves_nothing];

/// Nobody else's on the shared node.
const PORT: u16 = 18_411;

async fn a_pod_of_the_hosts_network_answers_at_the_nodes_address_and_leaves_nothing(scene: &Scene) -> Result<()> {
    let probe = json!({ "httpGet": { "path": "/healthz", "port": PORT }, "periodSeconds": 1 });
    let spec = PodSpec::of("http-hello")
        .main(json!({ "ports": [{ "containerPort": PORT }], "readinessProbe": probe }))
        .set(json!({ "hostNetwork": true }));
    scene.create::<Pod>(spec.pod("host")).await?;
    let pod = scene.ready("host").await?;
    let node = scene.node().ip().to_string();
    ensure!(pod_ip(&pod) == Some(&node), "the pod's address is {:?}, the node's {node}", pod_ip(&pod));
    let status = pod.status.clone().unwrap_or_default();
    ensure!(status.host_ip.as_deref() == Some(&node), "{:?}", status.host_ip);
    let address = SocketAddr::from((scene.node().ip(), PORT));
    let body = load::get(address, "/").await.context("ask the node's address")?;
    ensure!(body.starts_with("hello from v1 on "), "{body:?}");

    let (uid, scope) = (pod.uid().context("no UID")?, scene.cluster().site().cgroup());
    ensure!(Traces::of(scene.node(), &scope, &uid)?.processes.len() == 1, "it runs as one process");
    scene.delete::<Pod>("host").await?;
    until("the pod has left nothing", PATIENCE, async || {
        let left = Traces::of(scene.node(), &scope, &uid)?;
        Ok(Seen::when(left.is_empty(), format!("{left:?}")))
    })
    .await?;
    ensure!(load::get(address, "/").await.is_err(), "{address} answers still");
    Ok(())
}
