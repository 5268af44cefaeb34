//! What the rest of the agent may know of pods: read without waiting, at any time.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use samara_core::pod::ContainerState;
use samara_shim_client::Shim;
use tokio::sync::mpsc;

use super::PodRef;
use super::dispatch::Evict;
use crate::metrics;
use crate::server::workloads::{Process, Workloads};
use crate::shims::Task;

/// The node's pods. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pods(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cells: RwLock<HashMap<Arc<str>, Arc<Cell>>>,
    evict: mpsc::UnboundedSender<Evict>,
    evictions: Mutex<Option<mpsc::UnboundedReceiver<Evict>>>,
}

/// One pod's.
#[derive(Debug)]
pub(super) struct Cell {
    pod_ref: PodRef,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    pod: Arc<Pod>,
    status: Option<PodStatus>,
    containers: BTreeMap<String, Running>,
    /// Its object is no more; what is left of it ends.
    gone: bool,
    /// Until it runs.
    first_seen: Option<Instant>,
}

/// The newest attempt of a container.
#[derive(Debug, Clone)]
pub struct Running {
    pub task: Task,
    pub attempt: u32,
    pub log: PathBuf,
    pub state: ContainerState,
}

impl Pods {
    pub(super) fn new() -> Self {
        let (evict, evictions) = mpsc::unbounded_channel();
        Self(Arc::new(Inner { cells: RwLock::default(), evict, evictions: Mutex::new(Some(evictions)) }))
    }

    pub(super) fn add(&self, pod_ref: PodRef, pod: Arc<Pod>) -> Arc<Cell> {
        // One that ran before us has no start to be timed.
        let first_seen = (!runs(pod.status.as_ref())).then(Instant::now);
        let known = Known { pod, status: None, containers: BTreeMap::new(), gone: false, first_seen };
        let cell = Arc::new(Cell { pod_ref: pod_ref.clone(), known: Mutex::new(known) });
        self.0.cells.write().unwrap_or_else(PoisonError::into_inner).insert(pod_ref.uid, cell.clone());
        cell
    }

    pub(super) fn remove(&self, uid: &str) {
        self.0.cells.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
        metrics::agent().probes.forget(uid);
    }

    /// To be taken once, by the dispatcher.
    pub(super) fn evictions(&self) -> mpsc::UnboundedReceiver<Evict> {
        let taken = self.0.evictions.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Ends a pod because this node wants it.
    pub fn evict(&self, evict: Evict) {
        drop(self.0.evict.send(evict));
    }

    /// All pods, each with its newest status.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.cells().iter().map(|cell| cell.pod_with_status()).collect()
    }

    /// One of them. Beside one that ends after its object is gone there may be its successor: that has the name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let cells = self.cells();
        let named = cells.iter().filter(|cell| &*cell.pod_ref.namespace == namespace && &*cell.pod_ref.name == name);
        Some(named.min_by_key(|cell| cell.lock().gone)?.pod_with_status())
    }

    /// Whether anything of a pod may still be here.
    pub fn is_known(&self, uid: &str) -> bool {
        self.cell(uid).is_some()
    }

    /// The newest status of a pod, told or about to be.
    pub fn status(&self, uid: &str) -> Option<PodStatus> {
        self.cell(uid)?.lock().status.clone()
    }

    /// The newest attempt of a container, running or not.
    pub fn runtime(&self, uid: &str, container: &str) -> Option<Running> {
        self.cell(uid)?.lock().containers.get(container).cloned()
    }

    /// The newest attempts of all containers of all pods.
    pub fn running(&self) -> Vec<(PodRef, BTreeMap<String, Running>)> {
        self.cells().iter().map(|cell| (cell.pod_ref.clone(), cell.lock().containers.clone())).collect()
    }

    fn cell(&self, uid: &str) -> Option<Arc<Cell>> {
        self.0.cells.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    fn cells(&self) -> Vec<Arc<Cell>> {
        self.0.cells.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Workloads for Pods {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.list()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.get(namespace, name)
    }

    fn process(&self, uid: &str, container: &str) -> Option<Process> {
        let running = self.runtime(uid, container)?;
        match running.state {
            ContainerState::Running(_) => {
                let shim: Shim = running.task.front().connected()?;
                let bundle = running.task.bundle().clone();
                Some(Process {
                    shim,
                    id: running.task.id().to_owned(),
                    attempt: running.attempt,
                    bundle,
                    log: running.log,
                })
            }
            ContainerState::Created | ContainerState::Exited(_) => None,
        }
    }

    fn healthy(&self) -> Result<(), String> {
        match self.0.evict.is_closed() {
            true => Err("pods are not looked after".to_owned()),
            false => Ok(()),
        }
    }
}

impl Cell {
    /// As the API server has it.
    pub(super) fn pod(&self) -> Arc<Pod> {
        self.lock().pod.clone()
    }

    /// Whether it counts for admission: it has not ended, and is wanted (kubelet: `HandlePodRemoves`).
    pub(super) fn is_active(&self) -> bool {
        let known = self.lock();
        if known.gone {
            return false;
        }
        let status = known.status.as_ref().or(known.pod.status.as_ref());
        !matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
    }

    pub(super) fn set_gone(&self) {
        self.lock().gone = true;
    }

    pub(super) fn set_pod(&self, pod: Arc<Pod>) {
        self.lock().pod = pod;
    }

    pub(super) fn set_status(&self, status: PodStatus) {
        let mut known = self.lock();
        if let Some(seen) = known.first_seen.take_if(|_| runs(Some(&status))) {
            metrics::agent().pod_runs(seen.elapsed());
        }
        known.status = Some(status);
    }

    pub(super) fn set_container(&self, name: &str, running: Running) {
        self.lock().containers.insert(name.to_owned(), running);
    }

    fn pod_with_status(&self) -> Arc<Pod> {
        let known = self.lock();
        match &known.status {
            Some(status) => Arc::new(Pod { status: Some(status.clone()), ..Pod::clone(&known.pod) }),
            None => known.pod.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn runs(status: Option<&PodStatus>) -> bool {
    matches!(status.and_then(|status| status.phase.as_deref()), Some("Running" | "Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_the_pod_whose_object_is_there() {
        let pods = Pods::new();
        let add = |uid: String, name: &str| {
            let metadata = serde_json::json!({ "metadata": { "namespace": "shop", "name": name, "uid": uid } });
            let pod: Pod = serde_json::from_value(metadata).unwrap();
            pods.add(PodRef::of(&pod).unwrap(), Arc::new(pod))
        };
        // Many, because the order of a table's entries is chance.
        let names: Vec<String> = (0..20).map(|number| format!("web-{number}")).collect();
        for name in &names {
            let before = add(format!("{name}-before"), name);
            before.set_gone();
            assert!(!before.is_active());
            assert!(pods.get("shop", name).is_some(), "it still answers for itself");
            assert!(add(format!("{name}-now"), name).is_active());
        }
        for name in names {
            assert_eq!(pods.get("shop", &name).unwrap().metadata.uid, Some(format!("{name}-now")));
        }
    }
}
