//! What the tools of others make, as pods: `images` has what oras and crane push.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use samara_tests::cluster::{tools_dir, workspace};
use samara_tests::manifest::PodSpec;
use samara_tests::samples;
use samara_tests::scene::Scene;
use serde_json::json;
use tokio::process::Command;

use crate::trial::tests;

tests![a_pod_runs_from_the_layers_that_buildah_makes, a_pod_runs_from_what_wkg_pushes];

async fn a_pod_runs_from_the_layers_that_buildah_makes(scene: &Scene) -> Result<()> {
    let work = tempfile::tempdir()?;
    let name = format!("localhost:5000/{}/buildah:v1", scene.namespace());
    let mut build = Command::new(workspace().join("tests/tools/buildah/image.sh"));
    build.arg(work.path()).arg(samples::artifact("wasm32-wasip1/release/toolbox.wasm"));
    build.arg("oci").arg(format!("docker://{name}")).env("HOME", work.path());
    run(build).await?;
    let log = output(scene, "buildah", &name).await?;
    ensure!(log == "kept\nreplaced\nshape\n", "it lists {log:?}");
    Ok(())
}

async fn a_pod_runs_from_what_wkg_pushes(scene: &Scene) -> Result<()> {
    let home = tempfile::tempdir()?;
    let name = format!("localhost:5000/{}/wkg:v1", scene.namespace());
    let mut push = Command::new(tools_dir().join("wkg/bin/wkg"));
    push.args(["oci", "push", "--insecure", "localhost:5000", &name]);
    push.arg(samples::artifact("wasm32-wasip2/release/hello.wasm")).env_clear().env("HOME", home.path());
    run(push).await?;
    let log = output(scene, "wkg", &name).await?;
    ensure!(log.starts_with("hello from samara"), "it printed {log:?}");
    Ok(())
}

/// What a pod of this image prints until it is over.
async fn output(scene: &Scene, pod: &str, image: &str) -> Result<String> {
    let app = json!({ "image": image, "name": "app" });
    scene.create::<Pod>(PodSpec::of("hello").main(app).set(json!({ "restartPolicy": "Never" })).pod(pod)).await?;
    scene.over(pod).await?;
    scene.log(pod, &LogParams::default()).await
}

async fn run(mut command: Command) -> Result<()> {
    let output = command.output().await.with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
