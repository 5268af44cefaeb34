//! The API server is out of reach for two minutes, and comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use samara_tests::cluster::addresses;
use samara_tests::load;
use samara_tests::manifest::PodSpec;
use samara_tests::node::{For, Node, Options};
use samara_tests::scene::{Scene, container_state, pod_ip};
use serde_json::json;

use crate::trial::tests;

tests![two_minutes_without_an_api_server_disturb_no_pod];

const AWAY: Duration = Duration::from_secs(120);

async fn two_minutes_without_an_api_server_disturb_no_pod(scene: &Scene) -> Result<()> {
    let node = Node::start(scene.cluster(), &Options { whom: For::OneTest, ..Options::new("alone") }).await?;
    node.ready(scene.cluster()).await?;
    let crashing = samara_tests::manifest::container("crashing", "crash-loop");
    scene.create::<Deployment>(PodSpec::web().on(node.name()).deployment("web", 2)).await?;
    scene
        .create::<Pod>(
            PodSpec::containers([crashing]).on(node.name()).set(json!({ "restartPolicy": "Always" })).pod("crashing"),
        )
        .await?;
    let before = scene.ready_pods("app=web", 2).await?;

    let already = std::fs::read(node.agent_log())?.len();
    node.unplug(scene.cluster())?;
    let began = Instant::now();
    while began.elapsed() < AWAY {
        // From inside, where the pods are: they serve, whoever is away.
        for pod in &before {
            let address = SocketAddr::new(pod_ip(pod).context("no address")?.parse()?, 8080);
            node.namespace().run(|| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)))??;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let server = addresses::api_server();
    let server = server.trim_start_matches("https://");
    let log = std::fs::read_to_string(node.agent_log())?;
    let said = log.get(already..).unwrap_or_default();
    ensure!(said.lines().any(|line| line.contains("WARN") && line.contains(server)), "no word of {server}:\n{said}");
    node.plug_back(scene.cluster())?;
    node.ready(scene.cluster()).await?;

    let after = scene.ready_pods("app=web", 2).await?;
    for (old, new) in before.iter().zip(&after) {
        let ids = [old, new].map(|pod| {
            container_state(pod, "http-hello").map(|status| (status.container_id.clone(), status.restart_count))
        });
        ensure!(ids[0] == ids[1], "{ids:?}");
        let address = SocketAddr::new(pod_ip(new).context("no address")?.parse()?, 8080);
        load::get(address, "/").await?;
    }
    // What happened meanwhile is told afterwards: the crashing one went on crashing.
    scene
        .pod_until("crashing", "tells of its restarts", |pod| {
            container_state(pod, "crashing").is_some_and(|status| status.restart_count >= 3)
        })
        .await?;
    Ok(())
}
