//! Stats and metrics.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{PATIENCE, Scene};
use samara_tests::wait::{Seen, until};
use serde_json::{Value, json};

use crate::trial::tests;

tests![
    the_summary_has_a_running_pods_cpu_and_memory_and_none_of_them_is_zero,
    the_resource_metrics_have_what_metrics_server_reads,
    the_metrics_have_the_kubelets_names,
    the_nodes_list_of_pods_is_the_api_servers,
    the_summary_tells_what_a_pod_has_written,
    the_cadvisor_metrics_have_the_series_that_dashboards_select,
    the_configuration_in_force_is_told,
];

async fn raw(scene: &Scene, path: &str) -> Result<String> {
    let path = format!("/api/v1/nodes/{}/proxy{path}", scene.node().name());
    scene.cluster().kubectl().run(&["get", "--raw", &path]).await
}

async fn idle(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::of("toolbox").pod("idle")).await?;
    scene.ready("idle").await.map(drop)
}

async fn the_summary_has_a_running_pods_cpu_and_memory_and_none_of_them_is_zero(scene: &Scene) -> Result<()> {
    idle(scene).await?;
    let nonzero = |value: &Value| value.as_u64().is_some_and(|value| value > 0);
    let summary = until("the summary has the pod", PATIENCE, async || {
        let summary: Value = serde_json::from_str(&raw(scene, "/stats/summary").await?)?;
        let pods = summary["pods"].as_array().cloned().unwrap_or_default();
        let pod = pods
            .into_iter()
            .find(|pod| pod["podRef"]["name"] == "idle" && pod["podRef"]["namespace"] == scene.namespace());
        let complete = pod.filter(|pod| {
            nonzero(&pod["cpu"]["usageCoreNanoSeconds"])
                && nonzero(&pod["containers"][0]["cpu"]["usageCoreNanoSeconds"])
        });
        Ok(Seen::some(complete.map(|pod| (summary["node"].clone(), pod)), summary["pods"].to_string()))
    })
    .await?;
    let (node, pod) = summary;
    let container = &pod["containers"][0];
    ensure!(container["name"] == "toolbox", "{container}");
    for (what, value) in [
        ("the node's CPU", &node["cpu"]["usageCoreNanoSeconds"]),
        ("the node's memory", &node["memory"]["workingSetBytes"]),
        ("the node's file system", &node["fs"]["capacityBytes"]),
        ("the pod's memory", &pod["memory"]["workingSetBytes"]),
        ("the container's memory", &container["memory"]["workingSetBytes"]),
    ] {
        ensure!(nonzero(value), "{what} is {value}");
    }
    Ok(())
}

async fn the_resource_metrics_have_what_metrics_server_reads(scene: &Scene) -> Result<()> {
    idle(scene).await?;
    let labels =
        |name: &str| format!("{name}{{container=\"toolbox\",namespace=\"{}\",pod=\"idle\"}}", scene.namespace());
    let text = until("the pod has metrics", PATIENCE, async || {
        let text = raw(scene, "/metrics/resource").await?;
        Ok(if text.contains(&labels("container_cpu_usage_seconds_total")) {
            Seen::Yes(text)
        } else {
            Seen::NotYet(text)
        })
    })
    .await?;
    for name in
        ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds"]
    {
        let line = text.lines().find(|line| line.starts_with(&labels(name))).with_context(|| format!("no {name}"))?;
        let value: f64 =
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).with_context(|| line.to_owned())?;
        ensure!(value > 0.0, "{line}: metrics-server drops a pod with a zero");
    }
    for name in ["node_cpu_usage_seconds_total", "node_memory_working_set_bytes", "pod_memory_working_set_bytes"] {
        ensure!(text.lines().any(|line| line.starts_with(name)), "no {name}");
    }
    Ok(())
}

async fn the_metrics_have_the_kubelets_names(scene: &Scene) -> Result<()> {
    idle(scene).await?;
    let text = raw(scene, "/metrics").await?;
    for name in [
        "kubelet_node_name",
        "kubelet_running_pods",
        "kubelet_running_containers",
        "kubelet_pod_start_duration_seconds_bucket",
        "kubelet_started_pods_total",
        "kubelet_started_containers_total",
        "process_start_time_seconds",
        "kubelet_certificate_manager_server_ttl_seconds",
    ] {
        ensure!(text.lines().any(|line| line.starts_with(name)), "no {name} in:\n{text}");
    }
    Ok(())
}

async fn the_nodes_list_of_pods_is_the_api_servers(scene: &Scene) -> Result<()> {
    idle(scene).await?;
    let list: Value = serde_json::from_str(&raw(scene, "/pods").await?)?;
    let pods = list["items"].as_array().context("no items")?;
    let own = pods
        .iter()
        .find(|pod| pod["metadata"]["namespace"] == scene.namespace())
        .context("the pod is not in the list")?;
    ensure!(own["metadata"]["name"] == "idle" && own["status"]["phase"] == "Running", "{own}");
    let running: Value = serde_json::from_str(&raw(scene, "/runningpods/").await?)?;
    let found =
        running["items"].as_array().into_iter().flatten().any(|pod| pod["metadata"]["namespace"] == scene.namespace());
    ensure!(found, "not among the running: {running}");
    Ok(())
}

async fn the_summary_tells_what_a_pod_has_written(scene: &Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }] });
    let volumes = json!({ "volumes": [{ "name": "scratch", "emptyDir": {} }] });
    scene.create::<Pod>(PodSpec::of("toolbox").main(mounts).set(volumes).pod("idle")).await?;
    let pod = scene.ready("idle").await?;
    // A guest's own writing is shown elsewhere: here what counts is where it lands.
    let own = scene.node().root_dir().join("pods").join(pod.uid().context("no UID")?);
    let written = vec![1_u8; 1 << 20];
    std::fs::write(own.join("volumes/kubernetes.io~empty-dir/scratch/file"), &written)?;
    std::fs::write(own.join("containers/toolbox/0/upper/file"), &written)?;
    until("the summary has what was written", PATIENCE, async || {
        let summary: Value = serde_json::from_str(&raw(scene, "/stats/summary").await?)?;
        let pods = summary["pods"].as_array().cloned().unwrap_or_default();
        let pod = pods.into_iter().find(|pod| pod["podRef"]["namespace"] == scene.namespace()).unwrap_or_default();
        let large = |value: &Value| value.as_u64().is_some_and(|bytes| bytes >= 1 << 20);
        let volume = pod["volume"].as_array().into_iter().flatten().find(|volume| volume["name"] == "scratch");
        let told = large(&pod["containers"][0]["rootfs"]["usedBytes"])
            && volume.is_some_and(|volume| large(&volume["usedBytes"]))
            && pod["ephemeral-storage"]["usedBytes"].as_u64().is_some_and(|bytes| bytes >= 2 << 20);
        Ok(Seen::when(told, pod.to_string()))
    })
    .await
}

async fn the_cadvisor_metrics_have_the_series_that_dashboards_select(scene: &Scene) -> Result<()> {
    idle(scene).await?;
    let text = raw(scene, "/metrics/cadvisor").await?;
    for name in [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_memory_rss",
        "container_cpu_cfs_throttled_periods_total",
        "container_start_time_seconds",
        "container_fs_usage_bytes",
    ] {
        let ours = |line: &&str| {
            line.starts_with(name)
                && line.contains("container=\"toolbox\"")
                && line.contains(&format!("namespace=\"{}\"", scene.namespace()))
                && !line.contains("image=\"\"")
        };
        ensure!(text.lines().any(|line| ours(&line)), "no {name} in:\n{text}");
    }
    Ok(())
}

async fn the_configuration_in_force_is_told(scene: &Scene) -> Result<()> {
    let told: Value = serde_json::from_str(&raw(scene, "/configz").await?)?;
    let config = &told["kubeletconfig"];
    ensure!(config["kind"] == "KubeletConfiguration" && config["serverTLSBootstrap"] == true, "{config}");
    ensure!(config["clusterDNS"] == json!(["10.96.0.10"]) && config["eventRecordQPS"] == 50, "{config}");
    Ok(())
}
