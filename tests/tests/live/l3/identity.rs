//! Who a guest is on its node: user, groups, capabilities.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use samara_tests::load;
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{Scene, pod_ip};
use samara_tests::traces::Traces;
use serde_json::json;

use crate::trial::tests;

tests![a_user_without_any_capability_serves_port_80, a_volume_is_read_and_written_by_the_pods_group,];

const USER: u32 = 1000;
const GROUP: u32 = 2000;

async fn a_user_without_any_capability_serves_port_80(scene: &Scene) -> Result<()> {
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 80 }, "periodSeconds": 1 });
    let security = json!({
        "runAsUser": USER, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
    });
    let fields = json!({
        "env": [{ "name": "PORT", "value": "80" }], "readinessProbe": probe, "securityContext": security,
    });
    scene.create::<Pod>(PodSpec::of("http-hello").main(fields).pod("web")).await?;
    let pod = scene.ready("web").await?;
    let ip = pod_ip(&pod).context("no address")?.parse()?;
    let body = load::get(SocketAddr::new(ip, 80), "/").await?;
    ensure!(body == "hello from v1 on web\n", "{body:?}");

    let uid = pod.uid().context("no UID")?;
    let traces = Traces::of(scene.node(), &scene.cluster().site().cgroup(), &uid)?;
    let process = traces.processes.first().context("no process")?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    let ids: Vec<_> = line("Uid:").split_whitespace().collect();
    ensure!(ids.len() == 4 && ids.iter().all(|id| *id == USER.to_string()), "it runs as {ids:?}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        ensure!(line(set) == "0000000000000000", "{set} {}", line(set));
    }
    Ok(())
}

async fn a_volume_is_read_and_written_by_the_pods_group(scene: &Scene) -> Result<()> {
    let security = json!({ "runAsUser": USER, "runAsGroup": USER, "fsGroup": GROUP });
    let spec = PodSpec::of("toolbox")
        .main(json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }))
        .set(json!({ "securityContext": security, "volumes": [{ "name": "data", "emptyDir": {} }] }));
    scene.create::<Pod>(spec.pod("box")).await?;
    let pod = scene.ready("box").await?;
    let kubectl = scene.cluster().kubectl();
    let args = ["-n", scene.namespace(), "exec", "-i", "box", "--", "tee", "/data/file"];
    kubectl.input(&args, "written by the group").await.context("write as the group")?;
    let read = scene.kubectl(&["exec", "box", "--", "cat", "/data/file"]).await?;
    ensure!(read == "written by the group", "{read:?}");

    let uid = pod.uid().context("no UID")?;
    let dir = scene.node().root_dir().join("pods").join(uid).join("volumes/kubernetes.io~empty-dir/data");
    let about = std::fs::metadata(&dir).with_context(|| format!("look at {}", dir.display()))?;
    ensure!(about.gid() == GROUP && about.mode() & 0o2070 == 0o2070, "{} {:o}", about.gid(), about.mode());
    let about = std::fs::metadata(dir.join("file"))?;
    // The directory hands its group on; the file is the user's.
    ensure!((about.uid(), about.gid()) == (USER, GROUP), "the file is of {}:{}", about.uid(), about.gid());
    Ok(())
}
