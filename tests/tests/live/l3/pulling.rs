//! Pull policies.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use samara_images::Artifact;
use samara_tests::manifest::PodSpec;
use samara_tests::samples;
use samara_tests::scene::Scene;
use serde_json::json;

use crate::trial::tests;

tests![a_tag_that_was_moved_is_seen_by_the_policy_always_and_not_by_if_not_present];

async fn a_tag_that_was_moved_is_seen_by_the_policy_always_and_not_by_if_not_present(scene: &Scene) -> Result<()> {
    let image = format!("localhost:5000/samara/{}:moving", scene.namespace().trim_end_matches('-'));
    let run = async |name: &str, policy: &str| -> Result<String> {
        let app = json!({ "image": image, "name": "app", "imagePullPolicy": policy, "args": ["env"] });
        let spec = PodSpec::of("hello").main(app).set(json!({ "restartPolicy": "Never" }));
        scene.create::<Pod>(spec.pod(name)).await?;
        scene.over(name).await?;
        scene.kubectl(&["logs", name]).await
    };
    let push = async |guest: &str| -> Result<()> {
        let file = samples::artifact(format!("wasm32-wasip1/release/{guest}.wasm"));
        samples::push(&samples::pusher(), &image, Artifact::wasm(&file)?).await.context("push")
    };
    push("hello").await?;
    let first = run("first", "IfNotPresent").await?;
    ensure!(first.contains("hello from samara"), "{first}");
    push("env-dump").await?;
    let kept = run("kept", "IfNotPresent").await?;
    ensure!(kept.contains("hello from samara"), "a tag that is here was looked for again: {kept}");
    let always = run("always", "Always").await?;
    ensure!(always.contains("HOSTNAME=always"), "the policy Always saw the old image: {always}");
    // And what Always fetched is what the tag means here from now on.
    let then = run("then", "IfNotPresent").await?;
    ensure!(then.contains("HOSTNAME=then"), "{then}");
    Ok(())
}
