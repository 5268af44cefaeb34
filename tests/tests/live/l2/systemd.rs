//! The agent as the unit of a real systemd, from `deploy/`: its restart is nothing to the pods.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use samara_tests::cluster::workspace;
use samara_tests::manifest::PodSpec;
use samara_tests::node::{Node, samara};
use samara_tests::scene::{PATIENCE, Scene};
use samara_tests::site::process::{Process, Program};
use samara_tests::traces::Traces;
use samara_tests::wait::{Seen, until};

use super::agent::{kill_all, own_node, processes, undisturbed};
use crate::trial::tests;

tests![a_restart_of_the_agents_systemd_unit_disturbs_no_pod];

const UNIT: &str = "samara.service";
/// What is in the command lines of a front and its zygote.
const FRONT: [&str; 2] = [" front ", "zygote"];

/// Its process 1 is a systemd with nothing but this unit; the pods are in its namespaces too.
struct Systemd {
    process: Process,
}

impl Systemd {
    fn start(scene: &Scene, node: &Node) -> Result<Self> {
        let systemd = Path::new("/usr/lib/systemd/systemd");
        ensure!(systemd.exists(), "there is no {}: install the distribution's systemd", systemd.display());
        let site = scene.cluster().site();
        let units = node.root_dir().with_file_name("units");
        write_units(&units, node)?;
        let log = node.agent_log().with_extension("systemd.log");
        let program = Program::new("systemd", workspace().join("tests/machine/systemd.sh"), log)
            .arg(format!("{}/{}-systemd", site.cgroup(), node.name()))
            .arg(units)
            .arg(samara().canonicalize().context("the program under test")?)
            .arg(site.data_dir())
            .arg(site.run_dir());
        Ok(Self { process: site.start(node.namespace(), program)? })
    }

    /// `systemctl`, inside.
    async fn ctl(&self, args: &[&str]) -> Result<String> {
        // The first of its namespaces is the only child of `unshare`.
        let outer = self.process.id().pid;
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
        let first = children.split_whitespace().next().context("systemd is not there")?;
        let output = tokio::process::Command::new("nsenter")
            .args(["--target", first, "--all", "/usr/bin/systemctl"])
            .args(args)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "systemctl {args:?}: {said}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    async fn show(&self, property: &str) -> Result<String> {
        self.ctl(&["show", "--value", "--property", property, UNIT]).await
    }

    async fn until(&self, property: &str, is: impl Fn(&str) -> bool) -> Result<()> {
        until(format!("{property} of the unit"), PATIENCE, async || {
            let now = self.show(property).await.unwrap_or_else(|error| error.to_string());
            Ok(Seen::when(is(&now), now))
        })
        .await
    }
}

/// The unit as it is in `deploy/`, with this node's flags where an operator writes his.
fn write_units(units: &Path, node: &Node) -> Result<()> {
    let own = units.join(format!("{UNIT}.d"));
    fs::create_dir_all(&own)?;
    fs::copy(workspace().join("deploy").join(UNIT), units.join(UNIT))?;
    fs::write(units.join("samara.target"), format!("[Unit]\nDefaultDependencies=no\nWants={UNIT}\n"))?;
    let flags: Vec<_> = node.command_line().iter().skip(1).map(|flag| flag.to_string_lossy()).collect();
    // There is no other unit, and no journal.
    let text = format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nWatchdogSec=4\nEnvironment=\"SAMARA_FLAGS={}\"\n\
         Environment=RUST_LOG=info\nStandardOutput=append:{log}\nStandardError=append:{log}\n",
        flags.join(" "),
        log = node.agent_log().display(),
    );
    fs::write(own.join("test.conf"), text).context("write the unit's own settings")
}

async fn a_restart_of_the_agents_systemd_unit_disturbs_no_pod(scene: &Scene) -> Result<()> {
    let node = own_node(scene, "united").await?;
    // No front of the agent that was: the unit's own are to be shown. The first is made beside the joining.
    until("the agent has a front and a zygote", PATIENCE, async || {
        let there = FRONT.iter().all(|word| !processes(scene, &node, word).is_empty());
        Ok(Seen::when(there, "not yet"))
    })
    .await?;
    node.stop_agent(PATIENCE)?;
    for word in FRONT {
        kill_all(&processes(scene, &node, word))?;
    }
    // The directory itself may be a mount of the agent's.
    for front in fs::read_dir(node.run_dir().join("fronts"))? {
        fs::remove_dir_all(front?.path())?;
    }
    let mut systemd = Systemd::start(scene, &node)?;
    // Type=notify: active is what has said READY=1.
    systemd.until("ActiveState", |state| state == "active").await?;
    systemd.until("WatchdogTimestampMonotonic", |time| time != "0").await?;
    scene.create::<Pod>(PodSpec::of("toolbox").on(node.name()).pod("witness")).await?;
    let uid = scene.ready("witness").await?.uid().context("no UID")?;
    let traces = || Traces::of(&node, &scene.cluster().site().cgroup(), &uid);
    let before = traces()?;
    ensure!(before.processes.len() == 1 && !before.cgroups.is_empty(), "{before:?}");
    let inside = before.cgroups.iter().find(|dir| dir.to_string_lossy().contains(UNIT));
    ensure!(inside.is_none(), "the pod is in the agent's own cgroup {inside:?}");

    let (agent, lived) = (systemd.show("MainPID").await?, systemd.show("WatchdogTimestampMonotonic").await?);
    undisturbed(scene, &node, async |load| {
        load.more(20).await?;
        systemd.ctl(&["restart", UNIT]).await.map(drop)
    })
    .await?;
    ensure!(systemd.show("MainPID").await? != agent, "the agent is the same");
    ensure!(systemd.show("NRestarts").await? == "0", "it was the watchdog who restarted it");
    systemd.until("WatchdogTimestampMonotonic", |time| time != lived).await?;
    ensure!(traces()?.processes == before.processes, "{:?}, and now {:?}", before.processes, traces()?.processes);

    systemd.ctl(&["stop", UNIT]).await?;
    ensure!(systemd.show("Result").await? == "success" && systemd.show("ActiveState").await? == "inactive");
    ensure!(traces()?.processes == before.processes, "the pod ended with its agent");
    systemd.process.kill().map(drop)
}
