//! Pods by the hundred: from the sending of the create to the watch event that says Ready.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use samara_images::Artifact;
use samara_tests::cluster::{Cluster, tools_dir, workspace};
use samara_tests::manifest::PodSpec;
use samara_tests::samples;
use samara_tests::site::process::Program;
use samara_tests::wait::{Seen, until};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::report::Report;

/// Creates which are under way at once.
const IN_FLIGHT: usize = 16;
/// As many in one shot mean that something is wrong.
const WATCHES: u32 = 20;
const LIMIT: Duration = Duration::from_secs(300);

/// Who runs the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A node that runs nothing.
    Kwok,
    /// Ours.
    Samara,
}

impl Target {
    /// For tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kwok => "KWOK",
            Self::Samara => "Samara",
        }
    }

    fn pod(self, name: &str) -> serde_json::Value {
        let spec = PodSpec::of("env-dump")
            .main(json!({ "args": ["--hold"] }))
            .set(json!({ "terminationGracePeriodSeconds": 1 }));
        match self {
            Self::Samara => spec.pod(name),
            Self::Kwok => spec.set(json!({ "runtimeClassName": null, "nodeSelector": { "type": "kwok" } })).pod(name),
        }
    }
}

/// So many pods, all at once or one after each pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shot {
    pub(crate) pods: usize,
    pub(crate) every: Option<Duration>,
}

impl Shot {
    /// For tables.
    pub(crate) fn how(self) -> &'static str {
        if self.every.is_some() { "5/s" } else { "at once" }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Fired {
    namespace: String,
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
    /// From the first create to the last Ready.
    pub(crate) took: Duration,
}

impl Fired {
    /// Where the pods are.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The latency which that part of all did not exceed.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of a short list"
        )]
        let index = (last as f64 * part).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }

    /// Pods per second.
    pub(crate) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most thousands")]
        let count = self.latencies.len() as f64;
        count / self.took.as_secs_f64()
    }
}

/// Starts KWOK and gives it a node.
pub(crate) async fn start_kwok(cluster: &Cluster) -> Result<()> {
    let site = cluster.site();
    let program = Program::new("kwok", tools_dir().join("kwok"), cluster.logs().join("kwok.log"))
        .arg("--kubeconfig")
        .arg(cluster.kubectl().kubeconfig())
        .arg("--config")
        .arg(tools_dir().join("kwok-stages.yaml"))
        .args([
            "--manage-nodes-with-label-selector=type=kwok",
            "--cidr=10.99.0.0/16",
            "--node-ip=10.88.0.1",
            "--node-lease-duration-seconds=40",
        ])
        .env("HOME", site.data_dir());
    let mut process = site.start(site.namespace(), program)?;
    let nodes = Api::<Node>::all(cluster.client().clone());
    let object = json!({
        "metadata": { "name": "kwok", "labels": { "type": "kwok" }, "annotations": { "kwok.x-k8s.io/node": "fake" } },
        "spec": { "taints": [] },
        "status": { "allocatable": { "cpu": "1000", "memory": "1Ti", "pods": "5000" }, "capacity": { "cpu": "1000", "memory": "1Ti", "pods": "5000" } },
    });
    nodes.create(&PostParams::default(), &serde_json::from_value(object)?).await.context("create the fake node")?;
    until("the fake node is Ready", Duration::from_secs(30), async || {
        process.check()?;
        let node = nodes.get("kwok").await?;
        let ready = samara_tests::node::condition(&node, "Ready").is_some_and(|(status, _)| status == "True");
        Ok(Seen::when(ready, "not yet"))
    })
    .await
}

/// Guests of a usual size, and how each is told to do a little and then to wait.
const SIZED: [(&str, &[&str]); 2] = [
    ("patterns", &[r"\p{Lu}\w+", r#"{"who": "Samara and others"}"#, "--hold"]),
    ("script", &["print(40 + 2)", "--hold"]),
];

/// Modules of some size whose images the node has never seen, and further pods of each: create to Ready of all, and of pods
/// of the floor between them.
pub(crate) async fn first_of_an_image(cluster: &Cluster, report: &mut Report) -> Result<()> {
    for (name, args) in SIZED {
        let module = workspace().join("target/guests/wasm32-wasip1/release").join(name).with_extension("wasm");
        let image = samples::image(name);
        let artifact = Artifact::wasm(&module).with_context(|| format!("make {image}; `make guests`"))?;
        samples::push(&samples::pusher(), &image, artifact).await?;
        #[expect(clippy::cast_precision_loss, reason = "megabytes")]
        let size = std::fs::metadata(&module)?.len() as f64 / 1e6;
        let what = format!("a pod of {name}, {size:.1} MB");
        let spec = PodSpec::of(name).main(json!({ "image": image, "args": args }));
        let first = create_to_ready(cluster, Target::Samara, spec.pod("first")).await?;
        report.line(format!("{what}, nothing cached (pull, compile, start): Ready after {} ms", first.as_millis()));
        let mut floor = Vec::new();
        let mut cached = Vec::new();
        for number in 0..9 {
            floor.push(create_to_ready(cluster, Target::Kwok, Target::Kwok.pod(&format!("floor-{number}"))).await?);
            cached.push(create_to_ready(cluster, Target::Samara, spec.pod(&format!("cached-{number}"))).await?);
        }
        report.starts("one pod of KWOK, one at a time", floor);
        report.starts(&format!("{what}, from the cache, one at a time"), cached);
    }
    Ok(())
}

/// One pod in a namespace of its own, deleted when it was Ready.
async fn create_to_ready(cluster: &Cluster, target: Target, pod: serde_json::Value) -> Result<Duration> {
    let namespace = new_namespace(cluster, target).await?;
    let api = Api::<Pod>::namespaced(cluster.client().clone(), &namespace);
    let version = api.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let (done, ready) = oneshot::channel();
    let watching = tokio::spawn(watch(api.clone(), version, 1, done));
    let pod: Pod = serde_json::from_value(pod)?;
    let began = Instant::now();
    api.create(&PostParams::default(), &pod).await.context("create a pod")?;
    let ready = tokio::time::timeout(LIMIT, ready).await.context("the pod is not Ready")?.context("the watch")?;
    let at = ready.values().next().copied().unwrap_or(began);
    watching.abort();
    api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.context("delete the pod")?;
    Ok(at - began)
}

/// One pod, so that images and code are there and every path has been taken once.
pub(crate) async fn warm(cluster: &Cluster, target: Target) -> Result<()> {
    let fired = fire(cluster, target, Shot { pods: 5, every: None }).await?;
    clear(cluster, &fired).await
}

/// Fires a shot and waits until all its pods are Ready.
pub(crate) async fn fire(cluster: &Cluster, target: Target, shot: Shot) -> Result<Fired> {
    let namespace = new_namespace(cluster, target).await?;
    let api = Api::<Pod>::namespaced(cluster.client().clone(), &namespace);
    let version = api.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let sent: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let (done, all_ready) = oneshot::channel();
    let watching = tokio::spawn(watch(api.clone(), version, shot.pods, done));

    println!("{}: {} pods {}", target.name(), shot.pods, shot.how());
    let began = Instant::now();
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut creates = JoinSet::new();
    let mut pace = shot.every.map(tokio::time::interval);
    for index in 0..shot.pods {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let permit = Arc::clone(&room).acquire_owned().await?;
        let (api, sent, name) = (api.clone(), Arc::clone(&sent), format!("pod-{index:04}"));
        let pod = serde_json::from_value(target.pod(&name))?;
        creates.spawn(async move {
            sent.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
            let created = api.create(&PostParams::default(), &pod).await;
            drop(permit);
            created.map(drop)
        });
    }
    while let Some(created) = creates.join_next().await {
        created?.context("create a pod")?;
    }
    let Ok(ready) = tokio::time::timeout(LIMIT, all_ready).await.context("not all pods became Ready")? else {
        watching.await?.context("watch the pods")?;
        bail!("the watch ended without an error");
    };
    watching.abort();
    let last = ready.values().max().copied().unwrap_or(began);
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    let mut latencies: Vec<_> =
        ready.iter().filter_map(|(name, at)| Some(at.duration_since(*sent.get(name)?))).collect();
    latencies.sort();
    Ok(Fired { namespace, latencies, took: last - began })
}

/// Notes when each pod is Ready, and tells when all are.
async fn watch(
    api: Api<Pod>,
    mut version: String,
    count: usize,
    done: oneshot::Sender<HashMap<String, Instant>>,
) -> Result<()> {
    let mut ready = HashMap::new();
    // A server under load ends the watch of whoever is slow to read; as every client does, we go on where it ended.
    for _ in 0..WATCHES {
        let mut events = pin!(api.watch(&WatchParams::default().timeout(290), &version).await?);
        while let Some(event) = events.next().await {
            let now = Instant::now();
            let (WatchEvent::Modified(pod) | WatchEvent::Added(pod)) = event? else { continue };
            version = pod.resource_version().unwrap_or(version);
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            if conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True")) {
                ready.entry(pod.name_any()).or_insert(now);
            }
            if ready.len() == count {
                done.send(ready).ok();
                return Ok(());
            }
        }
    }
    bail!("{WATCHES} watches ended")
}

/// Deletes the pods and waits until they are gone from API and node.
pub(crate) async fn clear(cluster: &Cluster, fired: &Fired) -> Result<()> {
    let api = Api::<Pod>::namespaced(cluster.client().clone(), &fired.namespace);
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.context("delete the pods")?;
    until("the pods are gone", LIMIT, async || {
        let left = api.list_metadata(&ListParams::default().limit(1)).await?.items.len();
        Ok(Seen::when(left == 0, "some are left"))
    })
    .await
}

async fn new_namespace(cluster: &Cluster, target: Target) -> Result<String> {
    let object = json!({ "metadata": { "generateName": format!("{}-", target.name().to_lowercase()) } });
    let namespaces = Api::<Namespace>::all(cluster.client().clone());
    let name = namespaces.create(&PostParams::default(), &serde_json::from_value(object)?).await?.name_any();
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client().clone(), &name);
    until("the namespace has its service account", Duration::from_secs(30), async || {
        Ok(Seen::some(accounts.get_opt("default").await?, "none"))
    })
    .await?;
    Ok(name)
}
