//! What a guest has around it, and how a user looks at it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use samara_tests::cluster::Cluster;
use samara_tests::node::Node;
use samara_tests::wait::{Seen, until};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::tell::Teller;

const LIMIT: Duration = Duration::from_secs(60);

/// A ConfigMap, a Secret, an emptyDir, and a service account that may list pods.
const WORLD: &str = include_str!("world.yaml");

pub(super) async fn logs_and_exec(cluster: &Cluster, teller: &mut Teller) -> Result<()> {
    teller
        .step("`kubectl logs -f` follows a guest, and `kubectl exec` starts a command beside one", async |tell| {
            cluster
                .kubectl()
                .run(&["wait", "--for=condition=Ready", "pod/spin-cpu", "pod/toolbox", "--timeout=60s"])
                .await?;
            tell.say("$ kubectl logs -f spin-cpu");
            let mut follow = cluster.kubectl().command(&["logs", "-f", "spin-cpu"]).spawn()?;
            let mut lines = BufReader::new(follow.stdout.take().context("a pipe was asked for")?).lines();
            for _ in 0..3 {
                let line = tokio::time::timeout(LIMIT, lines.next_line()).await.context("the log stands still")??;
                tell.quote(&line.context("the log ended")?, 1);
            }
            follow.kill().await?;
            tell.show(cluster.kubectl(), &["exec", "toolbox", "--", "ls", "-l", "/bin"]).await?;
            Ok(())
        })
        .await
}

pub(super) async fn volumes_and_api(cluster: &Cluster, teller: &mut Teller) -> Result<()> {
    teller
        .step(
            "A pod has a ConfigMap, a Secret, an emptyDir and a service account, and asks the API server",
            async |tell| {
                cluster.kubectl().input(&["apply", "-f", "-"], WORLD).await?;
                until("the pod is done", LIMIT, async || {
                    let phase =
                        cluster.kubectl().run(&["get", "pod", "world", "-o", "jsonpath={.status.phase}"]).await?;
                    ensure!(
                        phase != "Failed",
                        "the pod failed: {}",
                        cluster.kubectl().run(&["describe", "pod", "world"]).await?
                    );
                    Ok(Seen::when(phase == "Succeeded", phase))
                })
                .await?;
                for container in ["settings", "storage", "client"] {
                    tell.show(cluster.kubectl(), &["logs", "world", "-c", container]).await?;
                }
                Ok(())
            },
        )
        .await
}

pub(super) async fn figures(cluster: &Cluster, teller: &mut Teller, node: &Node) -> Result<()> {
    teller
        .step("The node's figures: a spinning guest is held to its limit of 200m", async |tell| {
            let path = format!("/api/v1/nodes/{}/proxy/stats/summary", node.name());
            tell.say(&format!("$ kubectl get --raw {path}"));
            let (cpu, lines) = until("the spinner's CPU is measured", LIMIT, async || {
                let summary: Value = serde_json::from_str(&cluster.kubectl().run(&["get", "--raw", &path]).await?)?;
                let lines = summary["pods"]
                    .as_array()
                    .map(|pods| pods.iter().map(line).collect::<Vec<_>>())
                    .unwrap_or_default();
                let spinner = summary["pods"]
                    .as_array()
                    .and_then(|pods| pods.iter().find(|pod| pod["podRef"]["name"] == "spin-cpu"));
                let cpu = spinner.and_then(|pod| pod["cpu"]["usageNanoCores"].as_u64()).filter(|cpu| *cpu > 0);
                Ok(Seen::some(cpu.map(|cpu| (cpu, lines)), "no figure yet"))
            })
            .await?;
            lines.iter().for_each(|line| tell.say(line));
            ensure!(cpu < 240_000_000, "the spinner uses {} m", cpu / 1_000_000);
            Ok(())
        })
        .await
}

fn line(pod: &Value) -> String {
    let name = pod["podRef"]["name"].as_str().unwrap_or_default();
    let cpu = pod["cpu"]["usageNanoCores"].as_u64().unwrap_or(0) / 1_000_000;
    let memory = pod["memory"]["workingSetBytes"].as_u64().unwrap_or(0) / 1024;
    format!("{name:<32} cpu {cpu:>4} m   memory {memory:>7} KiB")
}
