//! The story, step by step.

mod survival;
mod troubles;
mod web;
mod world;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use samara_tests::cluster::Cluster;
use samara_tests::node::{Join, Node, Options, samara};
use samara_tests::samples;
use samara_tests::site::Site;

use crate::tell::Teller;

/// Before any cluster: one guest, one command.
pub(crate) fn first_light(site: &Site, teller: &mut Teller) -> Result<()> {
    teller.step_now("A Wasm module runs in a sandbox of its own, without any cluster", |tell| {
        let module = samples::artifact("wasm32-wasip1/release/hello.wasm");
        tell.say("$ samara run hello.wasm to you");
        let output = site.host().run(|| {
            let mut command = Command::new(samara());
            command
                .arg("run")
                .arg("--root-dir")
                .arg(site.data_dir().join("run"))
                .arg("--run-dir")
                .arg(site.run_dir().join("run"));
            command.arg(&module).args(["to", "you"]).output()
        })?;
        let output = output.context("start samara")?;
        ensure!(
            output.status.success(),
            "samara run: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        tell.quote(&String::from_utf8_lossy(&output.stdout), 4);
        Ok(())
    })
}

/// Everything that needs the cluster.
pub(crate) async fn tell(cluster: &Cluster, teller: &mut Teller) -> Result<()> {
    let node = join(cluster, teller).await?;
    // What takes its time to go wrong begins here, and is looked at later.
    troubles::begin(cluster).await?;
    web::becomes_ready(cluster, teller).await?;
    web::is_updated_under_load(cluster, teller).await?;
    world::logs_and_exec(cluster, teller).await?;
    world::volumes_and_api(cluster, teller).await?;
    troubles::are_told(cluster, teller).await?;
    world::figures(cluster, teller, &node).await?;
    survival::of_the_agents_death(cluster, teller, &node).await
}

async fn join(cluster: &Cluster, teller: &mut Teller) -> Result<Node> {
    teller
        .step(
            "A node joins by TLS bootstrap: a token becomes a client certificate and a serving certificate",
            async |tell| {
                let node = Node::start(cluster, &Options { join: Join::Bootstrap, ..Options::new("samara-1") }).await?;
                node.ready(cluster).await?;
                tell.show(cluster.kubectl(), &["get", "nodes", "-o", "wide"]).await?;
                tell.show(cluster.kubectl(), &["get", "certificatesigningrequests"]).await?;
                Ok(node)
            },
        )
        .await
}
