//! Memory and CPU of a node, idle and with pods.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use samara_tests::cluster::Cluster;
use samara_tests::node::Node;
use samara_tests::site::cgroup::cpu_time;
use samara_tests::wait::{Seen, until};

use crate::machine::{self, Memory};
use crate::report::Report;

/// How long CPU time is counted.
const WINDOW: Duration = Duration::from_secs(30);

/// PSS and CPU of agent, fronts and zygotes.
pub(crate) async fn of_an_idle_node(cluster: &Cluster, node: &Node, report: &mut Report, when: &str) -> Result<()> {
    let all = machine::agents(cluster, node);
    let (began, before) = (Instant::now(), cpu_by_role(&all));
    tokio::time::sleep(WINDOW).await;
    let (took, after) = (began.elapsed(), cpu_by_role(&all));
    let mut memory: BTreeMap<&str, (i64, usize)> = BTreeMap::new();
    for (pid, role) in &all {
        let entry = memory.entry(role).or_default();
        *entry = (entry.0 + machine::pss(*pid), entry.1 + 1);
    }
    for (role, (kib, count)) in memory {
        let used = after.get(role).copied().unwrap_or_default() - before.get(role).copied().unwrap_or_default();
        let share = used.as_secs_f64() / took.as_secs_f64();
        report.process(when, role, count, kib, share);
    }
    Ok(())
}

fn cpu_by_role(all: &[(i32, &'static str)]) -> BTreeMap<&'static str, Duration> {
    let mut sums = BTreeMap::new();
    for (pid, role) in all {
        *sums.entry(*role).or_insert(Duration::ZERO) += cpu_time(*pid).unwrap_or_default();
    }
    sums
}

/// Memory which the pods took, all processes and the kernel, by MemAvailable; the control plane's own growth is taken off.
pub(crate) async fn per_pod(cluster: &Cluster, before: &Memory, pods: usize, report: &mut Report) -> Result<()> {
    // The kernel gives freed pages back in batches: the figure is the smallest of some.
    let mut least = i64::MAX;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        least = least.min(Memory::now(cluster)?.taken_since(before));
    }
    report.memory_per_pod(pods, least);
    Ok(())
}

/// The agent is killed and started: how long until it has adopted all, and whether any pod was disturbed.
pub(crate) async fn adoption(
    cluster: &Cluster,
    node: &Node,
    namespace: &str,
    pods: usize,
    report: &mut Report,
) -> Result<()> {
    let api = Api::<Pod>::namespaced(cluster.client().clone(), namespace);
    let before = identities(&api).await?;
    node.kill_agent()?;
    let began = Instant::now();
    node.start_agent(cluster)?;
    until("the new agent has adopted all pods", Duration::from_secs(60), async || {
        node.check()?;
        let log = std::fs::read_to_string(node.agent_log())?;
        let last = log.rfind("adopted").is_some_and(|at| log[at..].lines().count() > 0);
        Ok(Seen::when(last && running_pods(cluster, node).await.unwrap_or(0) >= pods, "not yet"))
    })
    .await?;
    report.line(format!(
        "agent killed and started with {pods} pods: all adopted after {} ms, counted by /runningpods/",
        began.elapsed().as_millis()
    ));
    let after = identities(&api).await?;
    ensure!(before == after, "pods were disturbed");
    Ok(())
}

async fn running_pods(cluster: &Cluster, node: &Node) -> Result<usize> {
    let path = format!("/api/v1/nodes/{}/proxy/runningpods/", node.name());
    let list: serde_json::Value = cluster.client().request(http::Request::get(path).body(Vec::new())?).await?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}

async fn identities(api: &Api<Pod>) -> Result<BTreeMap<String, Vec<(Option<String>, i32)>>> {
    let pods = api.list(&ListParams::default()).await?.items;
    let statuses = pods.into_iter().map(|pod| {
        let name = pod.name_any();
        let all = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        (name, all.into_iter().map(|status| (status.container_id, status.restart_count)).collect())
    });
    Ok(statuses.collect())
}
