//! Puts together what pods need, in the order in which a pod meets it, and starts it.

use std::collections::BTreeMap;
use std::sync::Arc;

use samara_core::statics::Surroundings;
use samara_images::{ImageStore, PluginConfigError, Puller, PullerConfig, StoreError};
use samara_shim_client::cgroup::{CgroupError, Cgroups};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hear::{self, Ears};
use super::images_in_use::Bundles;
use super::statics::{self, Feed, Mirrors};
use super::{Context, Pods, dispatch, watch as pod_watch};
use crate::events::{Recorder, Source};
use crate::images::{Collector, ImageUsers, Images, RecordsError, Rules};
use crate::network::{Network, NetworkError, NetworkState};
use crate::node::OwnNode;
use crate::objects::{Given, Objects};
use crate::shims::{Shims, ShimsConfig};
use crate::starts::Starts;
use crate::status::{StatusFiles, StatusWriter};
use crate::volumes::{DirectoryError, Layout, prepare_tmpfs};
use crate::{AgentConfig, Deps};

/// Why pods cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    #[error("opening the image store")]
    Store(#[from] StoreError),
    #[error("reading the configuration of credential plugins")]
    Credentials(#[from] PluginConfigError),
    #[error("opening the records of pulls")]
    Records(#[from] RecordsError),
    #[error("opening the pods' network")]
    Network(#[from] NetworkError),
    #[error("preparing the directory of Secrets")]
    Directory(#[from] DirectoryError),
    #[error("looking for control groups")]
    Cgroups(#[from] CgroupError),
    #[error("preparing the directory of pods' status")]
    StatusFiles(#[source] std::io::Error),
}

/// Watches, and looks after, all pods of this node until `deps.shutdown`; then leaves them running. Whoever starts next
/// adopts them.
///
/// Without a client there is no API server: pods come from manifests alone, with the ConfigMaps and Secrets beside them,
/// and are told of to files and the log. The recorder that is given back is for events of the node itself.
pub fn start(
    config: &AgentConfig,
    deps: &Deps,
    client: Option<&kube::Client>,
    node: &OwnNode,
    starts: Starts,
    tasks: &TaskTracker,
) -> Result<(Pods, Shims, Recorder), PodsError> {
    let shutdown = &deps.shutdown;
    let layout = Layout::new(&config.root_dir, &config.run_dir, &config.pod_logs_dir, &config.container_logs_dir);

    // What is read for pods: Services always, ConfigMaps and Secrets while a pod refers to them, tokens when they are due.
    let given = watch::Sender::new(Given::default());
    let objects = match client {
        Some(client) => Objects::new(client),
        None => Objects::alone(given.subscribe()),
    };

    // What is told of them: status first, events behind it.
    let (status, status_loop) = StatusWriter::new();
    let (events, event_loop) =
        Recorder::new(Source { component: "kubelet", host: config.node_name.clone() }, config.pods.events);
    let mut told_before = BTreeMap::new();
    match client {
        Some(client) => {
            tasks.spawn(objects.services.clone().keep(client.clone(), shutdown.clone()));
            tasks.spawn(event_loop.run(client.clone(), status_loop.behind(), shutdown.clone()));
            tasks.spawn(status_loop.run(client.clone(), starts.clone(), shutdown.clone()));
        }
        None => {
            let is_here = |uid: &str| layout.pod_bundles(uid).exists();
            let (files, told) = StatusFiles::open(&layout.status(), is_here).map_err(PodsError::StatusFiles)?;
            told_before = told;
            tasks.spawn(event_loop.run_alone(files.clone(), shutdown.clone()));
            tasks.spawn(status_loop.run_alone(files, starts.clone(), shutdown.clone()));
        }
    }

    // Where they live: a network namespace, and memory for what must not reach a disk and for what lives as they do.
    let network = Network::with_mode(&config.run_dir, config.pods.network)?;
    tasks.spawn(network.clone().keep(pod_cidrs(node, tasks, shutdown), shutdown.clone()));
    // Before anybody registers the node: it must not be Ready for a moment without a network.
    report_network(&network.state().borrow(), node);
    tasks.spawn(keep_reporting_network(network.clone(), node.clone(), shutdown.clone()));
    prepare_tmpfs(&layout.projections(), 0o711)?;
    prepare_tmpfs(&layout.bundles(), 0o700)?;
    prepare_tmpfs(&layout.fronts(), 0o700)?;

    // What they are made of: images, and their code.
    let store = ImageStore::open(&config.store_dir.join("images"))?;
    let admit = Some(deps.admit.clone());
    let puller = Puller::new(store, PullerConfig { admit, ..config.pods.images.clone() });
    let rules = Rules {
        limits: config.pods.pulls,
        credentials: config.pods.credentials.open()?,
        verification: config.pods.verification.clone(),
    };
    let images = Images::open(puller, config.root_dir.join("image_manager"), rules, deps.compile.clone())?;
    let of_images = node.clone();
    let tell_images = move |images| of_images.set_images(images);
    tasks.spawn(images.clone().keep_telling(tell_images, shutdown.clone()));

    // And those which nobody uses any more; in a store that is somebody else's too they are not ours to judge.
    let users: Vec<Arc<dyn ImageUsers>> = vec![Arc::new(Bundles(layout.bundles())), deps.image_users.clone()];
    let collector = Collector::new(images.clone(), config.pods.image_gc, users, jiff::Timestamp::now());
    if config.store_dir == config.root_dir {
        tasks.spawn(collector.keep(node.reference(), events.clone(), shutdown.clone()));
    }

    // What runs them: fronts, one of them always warm.
    let shims = Shims::new(ShimsConfig {
        exe: deps.shim_exe.clone(),
        dir: layout.fronts(),
        code_dir: config.store_dir.join("code"),
        pods_per_front: config.pods.pods_per_front,
    });
    shims.keep_one_warm();

    let context = Context {
        config: config.pods.clone(),
        layout: Arc::new(layout),
        node: node.clone(),
        network,
        objects,
        images,
        shims: shims.clone(),
        status,
        events: events.clone(),
        starts: starts.clone(),
        cgroups: Arc::new(Cgroups::detect()?),
    };
    let pods = Pods::new();
    let api = client.map(|client| {
        let (changes, receiver) = mpsc::channel(256);
        tasks.spawn(pod_watch::watch(client.clone(), config.node_name.clone(), changes, starts, shutdown.clone()));
        receiver
    });
    let manifests = config.manifests.clone().map(|manifests| {
        let (changes, receiver) = mpsc::channel(256);
        let surroundings = if client.is_some() { Surroundings::Cluster } else { Surroundings::Alone };
        let feed = Feed::new(&config.node_name, manifests.naming, surroundings);
        tasks.spawn(statics::follow(manifests, feed, changes, given, shutdown.clone()));
        receiver
    });
    let mirrors = client.filter(|_| manifests.is_some()).map(|client| Mirrors::new(client.clone(), node.clone()));
    let ears = Ears { api, manifests, told_before, mirrors, node: node.clone(), pods: pods.clone() };
    let (heard, receiver) = mpsc::channel(256);
    tasks.spawn(hear::hear(ears, heard, shutdown.clone()));
    tasks.spawn(dispatch::Dispatch::new(Arc::new(context), pods.clone()).run(receiver, shutdown.clone()));
    Ok((pods, shims, events))
}

/// The node's own setting, else `spec.podCIDRs`, or the older `spec.podCIDR`.
fn pod_cidrs(node: &OwnNode, tasks: &TaskTracker, shutdown: &CancellationToken) -> watch::Receiver<Vec<String>> {
    let (sender, receiver) = watch::channel(Vec::new());
    let mut objects = node.watch();
    let set = node.config().pod_cidr.as_ref().map(|ranges| ranges.split(',').map(str::to_owned).collect::<Vec<_>>());
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        loop {
            let assigned = objects.borrow_and_update().as_ref().and_then(|node| node.spec.clone()).map(|spec| {
                spec.pod_cidrs.filter(|all| !all.is_empty()).unwrap_or_else(|| spec.pod_cidr.into_iter().collect())
            });
            let ranges = set.clone().or(assigned);
            sender.send_if_modified(|known| {
                let ranges = ranges.unwrap_or_default();
                let changed = *known != ranges;
                *known = ranges;
                changed
            });
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = objects.changed() => if changed.is_err() { return },
            }
        }
    });
    receiver
}

/// The node is ready when its pods can have addresses.
fn report_network(state: &NetworkState, node: &OwnNode) {
    let health = match state {
        NetworkState::Ready => Ok(()),
        NetworkState::NoPodCidr => Err("pods have no network: the Node has no spec.podCIDR (kube-controller-manager \
             gives one with --allocate-node-cidrs and --cluster-cidr)"
            .to_owned()),
        NetworkState::Failed(message) => Err(format!("pods have no network: {message}")),
    };
    node.report("network", health);
}

async fn keep_reporting_network(network: Network, node: OwnNode, shutdown: CancellationToken) {
    let mut state = network.state();
    loop {
        report_network(&state.borrow_and_update(), &node);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
