//! The line, thin: a node, a Deployment, answers, logs, and nothing left behind.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt as _};
use samara_tests::node::condition;
use samara_tests::scene::Scene;

use crate::trial::tests;

tests![the_node_is_ready_with_its_labels_and_its_taint];

async fn the_node_is_ready_with_its_labels_and_its_taint(scene: &Scene) -> Result<()> {
    let node = Api::<Node>::all(scene.cluster().client().clone()).get(scene.node().name()).await?;
    ensure!(condition(&node, "Ready").is_some_and(|(status, _)| status == "True"));
    let labels = node.labels();
    for (key, value) in [
        ("kubernetes.io/arch", "wasm32"),
        ("kubernetes.io/os", "wasi"),
        ("samara.dev/wasm", "true"),
        ("kubernetes.io/hostname", scene.node().name()),
    ] {
        ensure!(
            labels.get(key).map(String::as_str) == Some(value),
            "label {key} is {:?}, not {value:?}",
            labels.get(key)
        );
    }
    let spec = node.spec.unwrap_or_default();
    ensure!(spec.pod_cidr.is_some(), "no podCIDR");
    let taints = spec.taints.unwrap_or_default();
    let wasm = taints.iter().any(|taint| {
        taint.key == "kubernetes.io/arch" && taint.value.as_deref() == Some("wasm32") && taint.effect == "NoSchedule"
    });
    ensure!(wasm, "taints are {taints:?}");
    Ok(())
}
