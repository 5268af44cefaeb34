//! Images that nobody uses, and images that come by file.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use samara_images::{Artifact, Digest};
use samara_tests::manifest::PodSpec;
use samara_tests::node::{For, Node, Options};
use samara_tests::scene::{Scene, container_state};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use super::{hello, padded, samara};
use crate::trial::tests;

tests![a_full_disk_loses_an_image_that_came_by_file_with_its_code_and_not_that_of_a_running_pod];

async fn a_full_disk_loses_an_image_that_came_by_file_with_its_code_and_not_that_of_a_running_pod(
    scene: &Scene,
) -> Result<()> {
    const IMAGE: &str = "localhost/large:v1";
    let (name, cluster) = ("collects", scene.cluster());
    // The node's root is a disk of 50 MB, and more than half of it is the one large image.
    let root = cluster.site().data_dir().join(name).join("root");
    cluster.site().mount_tmpfs(&root, 50)?;
    let config = json!({
        "imageGCHighThresholdPercent": 50, "imageGCLowThresholdPercent": 40, "imageMinimumGCAge": "1ms",
    });
    let node = Node::start(cluster, &Options { whom: For::OneTest, config, ..Options::new(name) }).await?;
    ensure!(node.root_dir() == root, "its root is elsewhere");
    node.ready(cluster).await?;

    let (wasm, layout) = (tempfile::NamedTempFile::new()?, tempfile::tempdir()?);
    let module = padded(30 << 20);
    fs::write(wasm.path(), &module)?;
    Artifact::wasm(wasm.path())?.write_layout(layout.path())?;
    let from = layout.path().to_str().context("a path")?;
    samara(&node, &["load", "-q", "-i", from, "--name", IMAGE]).await?;
    let never = hello(&node, IMAGE, json!({})).main(json!({ "imagePullPolicy": "Never" }));
    scene.create::<Pod>(never.pod("large")).await?;
    scene.create::<Pod>(PodSpec::of("toolbox").on(node.name()).pod("stays")).await?;
    let uid = scene.over("large").await?.metadata.uid.context("no uid")?;
    let before = scene.ready("stays").await?;
    scene.delete::<Pod>("large").await?;
    // Its bundle goes a moment after its object.
    let bundles = node.run_dir().join("bundles");
    ensure!(bundles.is_dir(), "bundles are elsewhere");
    until("the pod's bundle is gone", Duration::from_secs(60), async || {
        Ok(Seen::when(!bundles.join(&uid).exists(), "still there"))
    })
    .await?;
    let digest = Digest::of(&module);
    let blob = root.join("images/blobs/sha256").join(digest.hex());
    // One directory for each version of the compiler, and in it a file for each wasm.
    let code = || -> Result<Vec<String>> {
        let versions = fs::read_dir(root.join("code")).context("read the code cache")?;
        let files = versions.flatten().filter_map(|version| fs::read_dir(version.path()).ok()).flatten().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|name| name.ends_with(".cwasm")).collect())
    };
    let own = format!("{}.cwasm", digest.hex());
    let made = code()?;
    ensure!(blob.exists() && made.contains(&own) && made.len() == 2, "{made:?}");

    // It looks when it starts, and every five minutes from then on.
    node.kill_agent()?;
    node.start_agent(cluster)?;
    until("the unused image is collected", Duration::from_secs(60), async || {
        node.check()?;
        let images = samara(&node, &["images"]).await?;
        let gone = !images.contains(IMAGE) && !blob.exists() && !code()?.contains(&own);
        Ok(Seen::when(gone, images))
    })
    .await?;
    ensure!(code()?.len() == 1, "the running pod's code is gone too");
    node.ready(cluster).await?;
    let images = samara(&node, &["images"]).await?;
    ensure!(images.contains("samara/toolbox"), "{images}");
    let exec = scene.kubectl(&["exec", "stays", "--", "echo", "here"]).await?;
    ensure!(exec == "here\n", "{exec:?}");
    let id = |pod: &Pod| container_state(pod, "toolbox").and_then(|status| status.container_id.clone());
    let after = scene.ready("stays").await?;
    ensure!(id(&after).is_some() && id(&after) == id(&before), "the pod was disturbed");
    Ok(())
}
