//! Memory and CPU.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use samara_tests::manifest::{PodSpec, container, with};
use samara_tests::scene::{Scene, container_state};
use samara_tests::site::cgroup;
use samara_tests::traces::Traces;
use serde_json::{Value, json};

use crate::trial::tests;

tests![
    a_guest_that_takes_more_memory_than_its_limit_is_oom_killed_with_137,
    a_guest_beneath_its_memory_limit_lives,
    an_oom_kill_ends_one_container_and_not_its_neighbour,
    a_spinning_guest_is_held_to_its_cpu_limit,
    a_pods_cgroup_has_the_limits_of_its_containers_together_and_its_status_its_class,
];

async fn a_guest_that_takes_more_memory_than_its_limit_is_oom_killed_with_137(scene: &Scene) -> Result<()> {
    scene.apply_sample("hog-memory").await?;
    let pod = scene.over("hog-memory").await?;
    let status = container_state(&pod, "hog-memory").context("no container status")?;
    let end = status.state.as_ref().and_then(|state| state.terminated.as_ref()).context("not terminated")?;
    ensure!(end.exit_code == 137 && end.reason.as_deref() == Some("OOMKilled"), "ended as {end:?}");
    let log = scene.kubectl(&["logs", "hog-memory"]).await?;
    ensure!(
        log.contains("hog-memory: 16 MiB") && !log.contains("hog-memory: 64 MiB"),
        "it was limited elsewhere:\n{log}"
    );
    Ok(())
}

async fn a_guest_beneath_its_memory_limit_lives(scene: &Scene) -> Result<()> {
    let fields = json!({ "args": ["32"], "resources": { "limits": { "memory": "64Mi" } } });
    scene.create::<Pod>(PodSpec::of("hog-memory").main(fields).pod("holder")).await?;
    scene.log_with("holder", "holding 32 MiB").await?;
    let pod = scene.ready("holder").await?;
    let status = container_state(&pod, "hog-memory").context("no container status")?;
    ensure!(status.restart_count == 0, "restarted {} times", status.restart_count);
    Ok(())
}

async fn an_oom_kill_ends_one_container_and_not_its_neighbour(scene: &Scene) -> Result<()> {
    let hog = with(container("hog", "hog-memory"), json!({ "resources": { "limits": { "memory": "32Mi" } } }));
    let quiet = container("quiet", "toolbox");
    scene.create::<Pod>(PodSpec::containers([quiet, hog]).set(json!({ "restartPolicy": "Never" })).pod("pair")).await?;
    let pod = scene
        .pod_until("pair", "has a hog that is over beside one that runs", |pod| {
            let state = |name| container_state(pod, name).and_then(|status| status.state.as_ref());
            let over = state("hog").is_some_and(|state| state.terminated.is_some());
            over && state("quiet").is_some_and(|state| state.running.is_some())
        })
        .await?;
    let hog = container_state(&pod, "hog").and_then(|status| status.state.clone()).unwrap_or_default();
    let reason = hog.terminated.and_then(|end| end.reason);
    ensure!(reason.as_deref() == Some("OOMKilled"), "the hog ended by {reason:?}");
    Ok(())
}

async fn a_spinning_guest_is_held_to_its_cpu_limit(scene: &Scene) -> Result<()> {
    scene.apply_sample("spin-cpu").await?;
    let pod = scene.ready("spin-cpu").await?;
    scene.log_with("spin-cpu", "rounds").await?;
    let uid = pod.uid().context("no UID")?;
    let traces = Traces::of(scene.node(), &scene.cluster().site().cgroup(), &uid)?;
    let process = traces.processes.first().context("no process")?;

    // The kernel grants whole periods of 100 ms, so the longer the window the nearer; 4 s leave 5 % for the edges.
    let (began, before) = (Instant::now(), cgroup::cpu_time(process.pid)?);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let used = cgroup::cpu_time(process.pid)? - before;
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
    ensure!(share < 0.22, "a limit of 0.2 CPUs, and it used {share:.3}");
    ensure!(share > 0.05, "it did not spin: {share:.3}");
    Ok(())
}

async fn a_pods_cgroup_has_the_limits_of_its_containers_together_and_its_status_its_class(scene: &Scene) -> Result<()> {
    let limited = |name: &str, fields: Value| with(container(name, "toolbox"), json!({ "resources": fields }));
    let both = |memory: &str| json!({ "limits": { "cpu": "100m", "memory": memory } });
    let requested = json!({ "requests": { "memory": "8Mi" }, "limits": { "memory": "24Mi" } });
    let table = [
        ("Guaranteed", vec![limited("a", both("64Mi")), limited("b", both("32Mi"))], Some(96_u64 << 20)),
        ("Burstable", vec![limited("a", both("64Mi")), limited("b", requested)], Some(88 << 20)),
        // Of one that has no limit the pod has none.
        ("BestEffort", vec![container("a", "toolbox"), container("b", "toolbox")], None),
    ];
    for (class, containers, limit) in table {
        let name = class.to_lowercase();
        scene.create::<Pod>(PodSpec::containers(containers).pod(&name)).await?;
        let pod = scene.ready(&name).await?;
        let told = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
        ensure!(told == Some(class), "{class}: told {told:?}");
        let uid = pod.uid().context("no UID")?;
        let traces = Traces::of(scene.node(), &scene.cluster().site().cgroup(), &uid)?;
        let of_pod = traces.cgroups.iter().filter(|dir| dir.ends_with(format!("pod{uid}")));
        let limits = of_pod.filter_map(|dir| {
            let read = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
            read("memory.max").or_else(|| read("memory.limit_in_bytes"))
        });
        let limits: Vec<String> = limits.map(|text| text.trim().to_owned()).collect();
        let [found] = limits.as_slice() else { bail!("{class}: limits {limits:?} in {:?}", traces.cgroups) };
        // Without one: "max", or on v1 a number near the largest.
        let found = found.parse::<u64>().ok().filter(|bytes| *bytes < 1 << 60);
        ensure!(found == limit, "{class}: the pod's limit is {found:?}, not {limit:?}");
    }
    Ok(())
}
