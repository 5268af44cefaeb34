//! One pod, its worker, and the scripted world around it.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use samara_core::pod::Termination;
use samara_images::{ImageStore, Puller, PullerConfig, RegistryConfig};
use samara_shim_client::cgroup::Cgroups;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::api::{FakeApi, Told};
use super::front::FakeFront;
use super::registry::FakeRegistry;
use crate::events::{RATE, Recorder, Source};
use crate::images::{Images, Rules};
use crate::network::Network;
use crate::node::{Machine, NodeConfig, OwnNode};
use crate::objects::Objects;
use crate::pods::dispatch::{ApiObject, Wish};
use crate::pods::table::Pods;
use crate::pods::worker::Worker;
use crate::pods::{Context, PodRef, PodsConfig, adopt};
use crate::shims::{Shims, ShimsConfig, adoptable};
use crate::starts::Starts;
use crate::status::StatusWriter;
use crate::volumes::Layout;
use crate::{Compile, CompileError};

/// Nothing here takes longer; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// A world with one pod in it.
pub(super) struct Scene {
    pub(super) api: FakeApi,
    pub(super) front: FakeFront,
    pub(super) registry: FakeRegistry,
    pub(super) compiler: FakeCompiler,
    pub(super) pods: Pods,
    pub(super) dir: tempfile::TempDir,
    context: Arc<Context>,
    wish: watch::Sender<Wish>,
    worker: Option<JoinHandle<()>>,
    server: Option<ttrpc::r#async::Server>,
    _loops: Vec<AbortOnDropHandle<()>>,
}

/// Compiles nothing, or refuses with a text.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeCompiler(Arc<Mutex<Option<String>>>);

#[async_trait]
impl Compile for FakeCompiler {
    async fn ensure(&self, _: File, _: &str) -> Result<(), CompileError> {
        match self.0.lock().unwrap().clone() {
            Some(reason) => Err(CompileError { reason }),
            None => Ok(()),
        }
    }

    fn forget(&self, _: &str) -> Result<(), CompileError> {
        Ok(())
    }
}

impl FakeCompiler {
    pub(super) fn refuse(&self, text: Option<&str>) {
        *self.0.lock().unwrap() = text.map(str::to_owned);
    }
}

impl Scene {
    /// A pod on the host's network with one container `app`, changed by `change`; its worker begins with [`Scene::begin`].
    pub(super) async fn new(change: impl FnOnce(&mut Value)) -> Self {
        Self::holding(Duration::ZERO, change).await
    }

    /// As [`Scene::new`], with a first status that is held for so long.
    pub(super) async fn holding(status_hold: Duration, change: impl FnOnce(&mut Value)) -> Self {
        // As the binary does; the second time it is there already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (api, front, registry) = (FakeApi::new(), FakeFront::new(), FakeRegistry::start().await);
        let server = front.serve(&at("run/fronts/0")).await;
        let client = api.client();
        let shutdown = CancellationToken::new();

        let objects = Objects::new(&client);
        let (status, status_loop) = StatusWriter::new();
        let (events, event_loop) = Recorder::new(Source { component: "kubelet", host: "node-1".to_owned() }, RATE);
        let behind = status_loop.behind();
        let loops = vec![
            spawn(objects.services.clone().keep(client.clone(), shutdown.clone())),
            spawn(event_loop.run(client.clone(), behind, shutdown.clone())),
            spawn(status_loop.run(client.clone(), Starts::default(), shutdown)),
        ];

        let store = ImageStore::open(&at("images")).unwrap();
        let registries = RegistryConfig { plain_http: vec![registry.address.to_string()], ..RegistryConfig::default() };
        let puller = Puller::new(store, PullerConfig { registries, ..PullerConfig::default() });
        let compiler = FakeCompiler::default();
        let layout = Layout::new(&at("root"), &at("run"), &at("logs"), &at("links"));
        let node_config = NodeConfig { ips: vec!["127.0.0.1".parse().unwrap()], ..NodeConfig::default() };
        let node =
            OwnNode::new("node-1".to_owned(), node_config, Machine::new(dir.path()), Some("https://127.0.0.1:1"));
        let context = Context {
            config: PodsConfig {
                cgroup_root: format!("/samara-test-{}", std::process::id()),
                status_hold,
                ..PodsConfig::default()
            },
            node: node.await.unwrap(),
            network: Network::open(&at("run")).unwrap(),
            objects,
            images: Images::open(puller, at("records"), Rules::default(), Arc::new(compiler.clone())).unwrap(),
            shims: Shims::new(ShimsConfig {
                exe: "/bin/false".into(),
                dir: layout.fronts(),
                code_dir: at("code"),
                pods_per_front: 32,
            }),
            layout: Arc::new(layout),
            status,
            events,
            starts: Starts::default(),
            cgroups: Arc::new(Cgroups::detect().unwrap()),
        };
        let pod = pod(&registry, change);
        let tell = PodRef::of(&pod);
        let wish = watch::Sender::new(Wish { pod: Arc::new(pod), object: ApiObject::There, tell, termination: None });
        Self {
            api,
            front,
            registry,
            compiler,
            pods: Pods::new(),
            dir,
            context: Arc::new(context),
            wish,
            worker: None,
            server: Some(server),
            _loops: loops,
        }
    }

    /// Another pod like the first one, changed by `change`.
    pub(super) fn pod(&self, change: impl FnOnce(&mut Value)) -> Pod {
        pod(&self.registry, change)
    }

    /// What its parts share.
    pub(super) fn context(&self) -> Arc<Context> {
        self.context.clone()
    }

    /// A new agent knows of none.
    pub(super) fn forget_pods(&mut self) {
        self.pods = Pods::new();
    }

    /// Starts the pod's worker, as the dispatcher does; with what is on disk from an earlier one.
    pub(super) async fn begin(&mut self) {
        let pod = self.wish.borrow().pod.clone();
        let pod_ref = PodRef::of(&pod).unwrap();
        let cell = self.pods.add(pod_ref.clone(), pod.clone());
        let found = adoptable(&self.context.layout.bundles()).unwrap().remove(&*pod_ref.uid).unwrap_or_default();
        let adopted = adopt::adopt(&self.context, &pod_ref, &pod, found).await;
        let worker = Worker::new(self.context.clone(), pod_ref, self.wish.subscribe(), cell, adopted);
        self.worker = Some(tokio::spawn(worker.run()));
    }

    /// As SIGKILL would: the worker is gone in the middle of whatever it does.
    pub(super) async fn kill_worker(&mut self) {
        let worker = self.worker.take().unwrap();
        worker.abort();
        assert!(worker.await.unwrap_err().is_cancelled());
    }

    /// The front dies; what ran in it goes on, and another one serves it.
    pub(super) async fn replace_front(&mut self) {
        self.server.take().unwrap().shutdown().await.unwrap();
        self.server = Some(self.front.serve(&self.dir.path().join("run/fronts/0")).await);
    }

    /// Changes the API object, as the API server would tell.
    pub(super) fn change(&self, change: impl FnOnce(&mut Pod)) {
        self.wish.send_modify(|wish| {
            let mut pod = Pod::clone(&wish.pod);
            change(&mut pod);
            wish.pod = Arc::new(pod);
        });
    }

    /// `kubectl delete` with this grace.
    pub(super) fn delete(&self, grace: i64) {
        self.change(|pod| {
            let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
        });
    }

    pub(super) fn end_by_node(&self, termination: Termination) {
        self.wish.send_modify(|wish| wish.termination = Some(termination));
    }

    /// The API object is gone; waits until the worker has removed everything.
    pub(super) async fn gone(&mut self) {
        self.wish.send_modify(|wish| wish.object = ApiObject::Gone);
        let worker = self.worker.take().unwrap();
        tokio::time::timeout(LIMIT, worker).await.expect("the worker ends").unwrap();
    }

    /// Waits until what the API server was told satisfies this.
    pub(super) async fn told(&self, what: &str, is: impl Fn(&Told) -> bool) -> Told {
        let mut told = self.api.told();
        let waited =
            tokio::time::timeout(LIMIT, told.wait_for(|told| is(told))).await.map(|told| told.unwrap().clone());
        waited.unwrap_or_else(|_| panic!("never told: {what}; told {:#?}", self.api.told().borrow().clone()))
    }

    /// Waits until the last status satisfies this.
    pub(super) async fn status(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let told = self.told(what, |told| told.statuses.last().is_some_and(&is)).await;
        told.statuses.last().unwrap().clone()
    }

    /// Waits until the front was asked for this.
    pub(super) async fn asked(&self, call: &str) -> Vec<String> {
        let mut calls = self.front.calls();
        let is = |calls: &Vec<String>| calls.iter().any(|one| one == call);
        let waited = tokio::time::timeout(LIMIT, calls.wait_for(is)).await.map(|calls| calls.unwrap().clone());
        waited.unwrap_or_else(|_| panic!("never asked to {call}; asked {:?}", self.front.calls().borrow().clone()))
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.front.calls().borrow().clone()
    }
}

fn pod(registry: &FakeRegistry, change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": "shop", "uid": "uid-1", "generation": 1 },
        "spec": {
            "hostNetwork": true, "enableServiceLinks": false, "terminationGracePeriodSeconds": 30,
            "containers": [{ "name": "app", "image": format!("{}/app:1", registry.address) }],
        },
    });
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

fn spawn(future: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(future))
}

/// Whether a told status has the pod ready.
pub(super) fn is_ready(status: &Value) -> bool {
    condition(status, "Ready") == "True"
}

pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|one| one["type"] == kind).and_then(|one| one["status"].as_str()).unwrap_or_default()
}

/// The first container's waiting reason.
pub(super) fn waiting(status: &Value) -> &str {
    status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}
