//! Agent, front and zygote are killed, and no pod notices.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use samara_tests::load::{Load, Way};
use samara_tests::manifest::{PodSpec, service};
use samara_tests::node::{For, Node, Options, samara};
use samara_tests::scene::{PATIENCE, Scene, container_state, describe};
use samara_tests::site::cgroup;
use samara_tests::site::process::ProcessId;
use samara_tests::traces::{Traces, bundles};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![
    sigkill_of_the_agent_disturbs_no_pod_and_the_next_one_adopts_all,
    an_agent_of_another_binary_upgrades_the_fronts_and_no_pod_notices,
    a_pod_that_ended_while_there_was_no_agent_is_reported_with_its_own_exit_code,
    a_pod_deleted_while_there_was_no_agent_is_ended_by_the_next_one,
    sigkill_of_the_front_disturbs_no_pod,
    sigkill_of_the_zygote_disturbs_no_pod_and_new_pods_start,
    sigkill_of_a_container_is_137_and_a_restart,
];

/// A node for this test alone, Ready.
pub(super) async fn own_node(scene: &Scene, name: &str) -> Result<Node> {
    let node = Node::start(scene.cluster(), &Options { whom: For::OneTest, ..Options::new(name) }).await?;
    node.ready(scene.cluster()).await?;
    Ok(node)
}

/// Three http pods behind a Service `web` on that node.
async fn three(scene: &Scene, node: &Node) -> Result<Vec<Pod>> {
    let spec = PodSpec::web().on(node.name());
    scene.create::<Deployment>(spec.deployment("web", 3)).await?;
    scene.create::<Service>(service("web", 8080)).await?;
    scene.ready_pods("app=web", 3).await
}

/// Container id and restarts of each pod's containers.
fn identities(pods: &[Pod]) -> BTreeMap<String, (Option<String>, i32)> {
    let statuses = pods.iter().flat_map(|pod| {
        let all = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
        all.into_iter()
            .map(|status| (format!("{}/{}", pod.name_any(), status.name), (status.container_id, status.restart_count)))
    });
    statuses.collect()
}

/// The node's processes whose command line holds a word.
pub(super) fn processes(scene: &Scene, node: &Node, word: &str) -> Vec<ProcessId> {
    let scope = scene.cluster().site().cgroup();
    let agent = cgroup::beneath(&scope).into_iter().filter(|dir| dir.ends_with(format!("{}-agent", node.name())));
    let members = agent.flat_map(|dir| cgroup::members(&dir));
    members
        .filter(|id| {
            let line = fs::read(format!("/proc/{}/cmdline", id.pid)).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(word)
        })
        .collect()
}

/// Three pods serve, under load, while something is done to their node; after it a new pod starts, no request has failed,
/// and they are the same as before.
pub(super) async fn undisturbed(scene: &Scene, node: &Node, done: impl AsyncFnOnce(&Load) -> Result<()>) -> Result<()> {
    let before = identities(&three(scene, node).await?);
    let load = Load::start(scene.cluster().client(), scene.namespace(), "web", Way::Endpoints).await?;
    load.more(20).await?;
    done(&load).await?;
    load.more(50).await?;
    // What was killed works again: it can start a pod, and by then it has adopted the others.
    scene.create::<Pod>(PodSpec::of("toolbox").on(node.name()).pod("later")).await?;
    scene.ready("later").await?;
    load.finish().await.no_failure()?;
    let after = identities(&scene.ready_pods("app=web", 3).await?);
    ensure!(before == after, "before {before:?}\nafter {after:?}");
    Ok(())
}

async fn sigkill_of_the_agent_disturbs_no_pod_and_the_next_one_adopts_all(scene: &Scene) -> Result<()> {
    let node = own_node(scene, "kill-agent").await?;
    undisturbed(scene, &node, async |load| {
        node.kill_agent()?;
        load.more(50).await?;
        node.start_agent(scene.cluster())?;
        node.ready(scene.cluster()).await.map(drop)
    })
    .await
}

async fn an_agent_of_another_binary_upgrades_the_fronts_and_no_pod_notices(scene: &Scene) -> Result<()> {
    let dir = scene.cluster().site().data_dir().join("upgraded");
    fs::create_dir_all(&dir)?;
    let (installed, earlier) = (dir.join("samara"), dir.join("samara-earlier"));
    fs::copy(samara(), &earlier)?;
    symlink(&earlier, &installed)?;
    let options = Options { whom: For::OneTest, program: Some(installed.clone()), ..Options::new("upgraded") };
    let node = Node::start(scene.cluster(), &options).await?;
    node.ready(scene.cluster()).await?;
    undisturbed(scene, &node, async |load| {
        let fronts = processes(scene, &node, " front ");
        ensure!(!fronts.is_empty() && fronts.iter().all(|front| runs(front, &earlier)), "{fronts:?}");
        node.kill_agent()?;
        fs::remove_file(&installed)?;
        symlink(samara(), &installed)?;
        // As a package manager leaves it: nothing has the old file's name any more.
        fs::remove_file(&earlier)?;
        load.more(50).await?;
        node.start_agent(scene.cluster())?;
        node.ready(scene.cluster()).await?;
        until("the same processes run the new binary", PATIENCE, async || {
            let old: Vec<_> = fronts.iter().filter(|front| front.is_running() && !runs(front, &installed)).collect();
            Ok(Seen::when(old.is_empty(), format!("{old:?}")))
        })
        .await?;
        ensure!(fronts.iter().any(|front| front.is_running()), "fronts were replaced instead of upgraded");
        Ok(())
    })
    .await?;
    // Old and new containers are both heard.
    for name in ["deploy/web", "pod/later"] {
        scene.kubectl(&["logs", name]).await?;
    }
    let said = scene.kubectl(&["exec", "later", "--", "echo", "alive"]).await?;
    ensure!(said == "alive\n", "{said:?}");
    scene.delete::<Deployment>("web").await
}

/// Whether the process was made from this file.
fn runs(process: &ProcessId, file: &Path) -> bool {
    let its = fs::metadata(format!("/proc/{}/exe", process.pid));
    let file = fs::metadata(file);
    matches!((its, file), (Ok(its), Ok(file)) if (its.dev(), its.ino()) == (file.dev(), file.ino()))
}

async fn a_pod_that_ended_while_there_was_no_agent_is_reported_with_its_own_exit_code(scene: &Scene) -> Result<()> {
    let node = own_node(scene, "away").await?;
    let spec = PodSpec::of("toolbox")
        .on(node.name())
        .set(json!({ "restartPolicy": "Never" }))
        .main(json!({ "command": ["/bin/sleep"], "args": ["3"] }));
    scene.create::<Pod>(spec.pod("short")).await?;
    let pod = scene.ready("short").await?;
    let uid = pod.uid().context("no UID")?;
    node.kill_agent()?;
    until("it has ended", PATIENCE, async || {
        let all = bundles(&node, &uid)?;
        let records = all.iter().map(|(_, bundle)| bundle.exit_record()).collect::<Result<Vec<_>, _>>()?;
        Ok(Seen::when(!records.is_empty() && records.iter().all(Option::is_some), format!("{records:?}")))
    })
    .await?;
    node.start_agent(scene.cluster())?;
    let pod = scene.over("short").await?;
    let state = container_state(&pod, "toolbox").and_then(|status| status.state.clone()).unwrap_or_default();
    let end = state.terminated.context("not terminated")?;
    ensure!(end.exit_code == 0 && end.reason.as_deref() == Some("Completed"), "{end:?}");
    Ok(())
}

async fn a_pod_deleted_while_there_was_no_agent_is_ended_by_the_next_one(scene: &Scene) -> Result<()> {
    let node = own_node(scene, "late").await?;
    scene.create::<Pod>(PodSpec::of("toolbox").on(node.name()).pod("idle")).await?;
    let uid = scene.ready("idle").await?.uid().context("no UID")?;
    node.kill_agent()?;
    let zero = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    scene.api::<Pod>().delete("idle", &zero).await?;
    node.start_agent(scene.cluster())?;
    let scope = scene.cluster().site().cgroup();
    until("nothing of it is left", PATIENCE * 2, async || {
        let left = Traces::of(&node, &scope, &uid)?;
        Ok(Seen::when(left.is_empty(), format!("{left:?}")))
    })
    .await
}

async fn sigkill_of_the_front_disturbs_no_pod(scene: &Scene) -> Result<()> {
    let node = own_node(scene, "bereft-one").await?;
    undisturbed(scene, &node, async |_| kill_all(&processes(scene, &node, " front "))).await?;
    // What needs the front works again: an exec, and the end of an old pod.
    let said = scene.kubectl(&["exec", "later", "--", "echo", "alive"]).await?;
    ensure!(said == "alive\n", "{said:?}");
    scene.delete::<Deployment>("web").await
}

async fn sigkill_of_the_zygote_disturbs_no_pod_and_new_pods_start(scene: &Scene) -> Result<()> {
    let node = own_node(scene, "bereft-two").await?;
    undisturbed(scene, &node, async |_| kill_all(&processes(scene, &node, "zygote"))).await
}

pub(super) fn kill_all(found: &[ProcessId]) -> Result<()> {
    ensure!(!found.is_empty(), "none is found");
    found.iter().try_for_each(|id| id.kill())
}

async fn sigkill_of_a_container_is_137_and_a_restart(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::of("toolbox").pod("victim")).await?;
    let uid = scene.ready("victim").await?.uid().context("no UID")?;
    let traces = Traces::of(scene.node(), &scene.cluster().site().cgroup(), &uid)?;
    traces.processes.iter().try_for_each(|id| id.kill())?;
    let limit = PATIENCE + Duration::from_secs(10);
    let end = scene
        .object_until("victim", "was restarted", limit, |pod: &Pod| {
            let status = container_state(pod, "toolbox").filter(|status| status.restart_count == 1);
            Seen::some(status.and_then(|status| status.last_state.clone()?.terminated), describe(pod))
        })
        .await?;
    ensure!(end.exit_code == 137 && end.reason.as_deref() == Some("Error"), "{end:?}");
    Ok(())
}
