//! What the agent counts of itself, under the kubelet's names (kubelet: `metrics/metrics.go`), so that its dashboards and
//! alerts work here. There is one agent in a process, so there is one of these.

mod certificates;
mod operations;
mod probes;
mod process;

pub use certificates::{Certificate, Certificates};
pub use operations::Operations;
pub use probes::{ProbeLabels, ProbeResult, Probes};
pub use process::ProcessUse;

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds: from at once to an hour (kubelet: `podStartupDurationBuckets`).
const START_SECONDS: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

/// This process's.
pub fn agent() -> &'static Metrics {
    static AGENT: LazyLock<Metrics> = LazyLock::new(Metrics::default);
    &AGENT
}

/// Counters and histograms. Cheap to touch from anywhere.
#[derive(Debug)]
pub struct Metrics {
    started_pods: Counter,
    pod_start: Histogram,
    started_containers: Family<OfType, Counter>,
    containers_not_started: Family<NotStarted, Counter>,
    terminated_containers: Family<Terminated, Counter>,
    images_collected: Family<Why, Counter>,
    /// Probes' results, for `/metrics/probes`.
    pub probes: Probes,
    pub certificates: Certificates,
    /// What is done, and how long it takes.
    pub operations: Operations,
    registry: Mutex<Registry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    container_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotStarted {
    container_type: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Terminated {
    container_type: &'static str,
    exit_code: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            started_pods: Counter::default(),
            pod_start: Histogram::new(START_SECONDS),
            started_containers: Family::default(),
            containers_not_started: Family::default(),
            terminated_containers: Family::default(),
            images_collected: Family::default(),
            probes: Probes::default(),
            certificates: Certificates::default(),
            operations: Operations::default(),
            registry: Mutex::default(),
        };
        let mut registry = Registry::default();
        registry.register("kubelet_started_pods", "Cumulative number of pods started", metrics.started_pods.clone());
        registry.register(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            metrics.pod_start.clone(),
        );
        registry.register(
            "kubelet_started_containers",
            "Cumulative number of containers started",
            metrics.started_containers.clone(),
        );
        registry.register(
            "kubelet_started_containers_errors",
            "Cumulative number of errors when starting containers",
            metrics.containers_not_started.clone(),
        );
        registry.register(
            "kubelet_terminated_containers",
            "Cumulative number of containers that ended",
            metrics.terminated_containers.clone(),
        );
        registry.register(
            "kubelet_image_garbage_collected",
            "Total number of images garbage collected by the kubelet, whether through disk usage or image age",
            metrics.images_collected.clone(),
        );
        registry.register(
            "kubelet_certificate_manager_client_expiration_renew_errors",
            "Counter of certificate renewal errors",
            metrics.certificates.client.renew_errors.clone(),
        );
        registry.register(
            "kubelet_server_expiration_renew_errors",
            "Counter of certificate renewal errors",
            metrics.certificates.server.renew_errors.clone(),
        );
        metrics.operations.register(&mut registry);
        Self { registry: Mutex::new(registry), ..metrics }
    }
}

/// The kubelet's label for an init container and for the others.
fn container_type(init: bool) -> &'static str {
    if init { "init_container" } else { "container" }
}

impl Metrics {
    /// A pod's sandbox is being made.
    pub fn pod_started(&self) {
        self.started_pods.inc();
    }

    /// A pod runs, so long after it was first seen.
    pub fn pod_runs(&self, after: Duration) {
        self.pod_start.observe(after.as_secs_f64());
    }

    /// A guest runs.
    pub fn container_started(&self, init: bool) {
        self.started_containers.get_or_create(&OfType { container_type: container_type(init) }).inc();
    }

    /// It does not; `code` is the waiting reason.
    pub fn container_not_started(&self, init: bool, code: &'static str) {
        self.containers_not_started.get_or_create(&NotStarted { container_type: container_type(init), code }).inc();
    }

    /// One ended.
    pub fn container_terminated(&self, init: bool, exit_code: i32) {
        self.terminated_containers.get_or_create(&Terminated { container_type: container_type(init), exit_code }).inc();
    }

    /// An image went, for its `age` or for `space`.
    pub fn image_collected(&self, reason: &'static str) {
        self.images_collected.get_or_create(&Why { reason }).inc();
    }

    /// Hands the registry to whoever writes it down.
    pub fn with_registry<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(&self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
