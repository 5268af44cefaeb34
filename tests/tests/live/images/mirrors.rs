//! Images that come another way than from their registry.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use samara_tests::mirror::Mirrored;
use samara_tests::node::{For, Node, Options};
use samara_tests::samples;
use samara_tests::scene::Scene;
use serde_json::json;

use super::{hello, samara, tool};
use crate::trial::tests;

tests![a_short_name_is_pulled_through_a_mirror_also_when_its_registry_is_gone];

async fn a_short_name_is_pulled_through_a_mirror_also_when_its_registry_is_gone(scene: &Scene) -> Result<()> {
    let (name, cluster) = ("mirrored", scene.cluster());
    // What docker.io is for everyone, `library/hello` of ours is for this node.
    tool("crane", &["copy", "--insecure", &samples::image("hello"), "localhost:5000/library/hello:latest"]).await?;
    let flags = vec!["--registry-config-dir".into(), Mirrored::settings(cluster, name, "docker.io")?.into()];
    let node = Node::start(cluster, &Options { whom: For::OneTest, flags, ..Options::new(name) }).await?;
    node.ready(cluster).await?;
    let mut registries = Mirrored::start(cluster, &node, name).await?;
    for round in ["first", "again"] {
        scene.create::<Pod>(hello(&node, "hello", json!({})).pod(round)).await?;
        scene.over(round).await?;
        let log = scene.log(round, &LogParams::default()).await?;
        ensure!(log.starts_with("hello from samara"), "{log:?}");
        let pulled = scene.event(round, "Pulled").await?;
        ensure!(pulled.starts_with("Successfully pulled image \"hello\" in "), "{round}: {pulled}");
        scene.delete::<Pod>(round).await?;
        if round == "first" {
            // The configuration and the module; then there is only the mirror left to have them from.
            registries.keeps("library/hello", 2).await?;
            registries.end_origin()?;
            let images = samara(&node, &["images"]).await?;
            ensure!(images.contains("docker.io/library/hello:latest"), "{images}");
            samara(&node, &["rmi", "hello"]).await?;
        }
    }
    Ok(())
}
