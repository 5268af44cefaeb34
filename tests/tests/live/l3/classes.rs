//! RuntimeClasses: whose pods this node runs.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{Scene, container_state};
use serde_json::json;

use crate::trial::tests;

tests![a_pod_of_another_runtimes_class_is_not_run_and_one_of_another_name_for_ours_is];

async fn a_pod_of_another_runtimes_class_is_not_run_and_one_of_another_name_for_ours_is(scene: &Scene) -> Result<()> {
    let classes = Api::<RuntimeClass>::all(scene.cluster().client().clone());
    let mut made = Vec::new();
    for (pod, handler) in [("alien", "kata"), ("ours", "samara")] {
        let name = format!("{pod}-{}", scene.namespace().trim_end_matches('-'));
        let name: String = name.chars().take(63).collect();
        let scheduling = json!({
            "nodeSelector": { "samara.dev/wasm": "true" },
            "tolerations": [{ "key": "kubernetes.io/arch", "value": "wasm32", "effect": "NoSchedule" }],
        });
        let class = json!({ "metadata": { "name": name }, "handler": handler, "scheduling": scheduling });
        classes.create(&PostParams::default(), &serde_json::from_value(class)?).await.context("make the class")?;
        let spec = PodSpec::of("hello").set(json!({ "runtimeClassName": name, "restartPolicy": "Never" }));
        scene.create::<Pod>(spec.pod(pod)).await?;
        made.push(name);
    }
    scene.over("ours").await?;
    let message = scene.event("alien", "FailedCreatePodSandBox").await?;
    let want = "Failed to create pod sandbox: failed to get sandbox runtime: no runtime for \"kata\" is configured";
    ensure!(message == want, "{message}");
    let pod = scene
        .pod_until("alien", "waits", |pod| container_state(pod, "hello").is_some_and(|status| status.state.is_some()))
        .await?;
    let waiting = container_state(&pod, "hello").and_then(|status| status.state.clone()?.waiting).unwrap_or_default();
    ensure!(waiting.reason.as_deref() == Some("ContainerCreating"), "{waiting:?}");
    for name in made {
        classes.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(())
}
