//! Images that are larger, or more work, than a node allows.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use samara_images::{Artifact, ImageConfig, RootfsBuilder};
use samara_tests::node::{For, Node, Options};
use samara_tests::samples;
use samara_tests::scene::Scene;
use serde_json::json;

use super::{hello, of_functions, padded, waiting};
use crate::trial::tests;

tests![an_image_that_needs_more_than_the_node_gives_waits_and_says_what_is_too_much];

async fn an_image_that_needs_more_than_the_node_gives_waits_and_says_what_is_too_much(scene: &Scene) -> Result<()> {
    let (name, cluster) = ("sparing", scene.cluster());
    let flags =
        ["--max-module-size=4Mi", "--max-layer-entries=50", "--compile-memory=200Mi", "--compile-cpu-seconds=4"];
    let flags = flags.map(Into::into).to_vec();
    let node = Node::start(cluster, &Options { whom: For::OneTest, flags, ..Options::new(name) }).await?;
    let dir = tempfile::tempdir()?;
    let module = |name: &str, bytes: &[u8]| -> Result<Artifact> {
        let file = dir.path().join(name);
        std::fs::write(&file, bytes)?;
        Artifact::wasm(&file).context("make the artifact")
    };
    // Each value is one more than the one before, beside as many locals as there may be: little memory, much time.
    let slow = [[0x20, 0, 0x42, 1, 0x7c, 0x22, 0].repeat(100), vec![0x7c; 99], vec![0x1a]].concat();
    let files = (0..60).try_fold(RootfsBuilder::new(), |root, at| root.bytes(&format!("/{at}"), [], 0o644))?;
    let files = files.bytes("/app", padded(0), 0o755)?;
    let files = files.config(ImageConfig { entrypoint: vec!["/app".into()], ..ImageConfig::default() }).build()?;
    let images = [
        ("long", module("long", &padded(5 << 20))?, ["4194304"].as_slice()),
        ("many", files, &["it has more than 50 entries"]),
        ("huge", module("huge", &of_functions(100_000, 1, &[]))?, &["compiling needs more than 200 MiB of memory"]),
        // Whichever comes first on this machine.
        (
            "slow",
            module("slow", &of_functions(4000, 49_999, &slow))?,
            &["compiling needs more than 4 s of cpu time", "compiling needs more than 8 s"],
        ),
    ];
    let pusher = samples::pusher();
    let mut pods = Vec::new();
    for (pod, artifact, says) in images {
        let image = format!("localhost:5000/{}/{pod}:v1", scene.namespace());
        samples::push(&pusher, &image, artifact).await?;
        pods.push((pod, image, says));
    }
    node.ready(cluster).await?;
    for (pod, image, _) in &pods {
        scene.create::<Pod>(hello(&node, image, json!({})).pod(pod)).await?;
    }
    for (pod, image, says) in pods {
        let message = waiting(scene, pod, "ErrImagePull").await?;
        ensure!(message.contains(&image) && says.iter().any(|text| message.contains(text)), "{pod}: {message}");
    }
    scene.create::<Pod>(hello(&node, &samples::image("hello"), json!({})).pod("hello")).await?;
    scene.over("hello").await.map(drop)
}
