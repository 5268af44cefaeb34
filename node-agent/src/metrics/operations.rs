//! What the agent does and how long it takes: pods' rounds, calls of fronts, requests to the API server.

use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds: 5 ms, and each 2.5 times the one before (kubelet: `prometheus.ExponentialBuckets(.005, 2.5, 14)`).
const OPERATION_SECONDS: [f64; 14] = [
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];

/// Seconds in which pods' workers and statuses are counted (Prometheus' defaults).
const ROUND_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Cheap to touch from anywhere.
#[derive(Debug)]
pub struct Operations {
    runtime: Family<OperationType, Counter>,
    runtime_errors: Family<OperationType, Counter>,
    runtime_seconds: Family<OperationType, Histogram>,
    rounds: Family<OperationType, Histogram>,
    worker_start: Histogram,
    status_sync: Histogram,
    rejections: Family<Reason, Counter>,
    requests: Family<Request, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationType {
    operation_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    code: String,
    method: String,
    host: String,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            runtime: Family::default(),
            runtime_errors: Family::default(),
            runtime_seconds: Family::new_with_constructor(|| Histogram::new(OPERATION_SECONDS)),
            rounds: Family::new_with_constructor(|| Histogram::new(ROUND_SECONDS)),
            worker_start: Histogram::new(ROUND_SECONDS),
            status_sync: Histogram::new(ROUND_SECONDS),
            rejections: Family::default(),
            requests: Family::default(),
        }
    }
}

impl Operations {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "kubelet_runtime_operations",
            "Cumulative number of runtime operations by operation type",
            self.runtime.clone(),
        );
        registry.register(
            "kubelet_runtime_operations_errors",
            "Cumulative number of runtime operation errors by operation type",
            self.runtime_errors.clone(),
        );
        registry.register(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type",
            self.runtime_seconds.clone(),
        );
        registry.register(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            self.rounds.clone(),
        );
        registry.register(
            "kubelet_pod_worker_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod to starting a worker",
            self.worker_start.clone(),
        );
        registry.register(
            "kubelet_pod_status_sync_duration_seconds",
            "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status \
             until the API is successfully updated for that pod",
            self.status_sync.clone(),
        );
        registry.register(
            "kubelet_admission_rejections",
            "Cumulative number pod admission rejections by the kubelet",
            self.rejections.clone(),
        );
        registry.register(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host",
            self.requests.clone(),
        );
    }

    /// Awaits a call of a front or of the image store, under the kubelet's name for it.
    pub async fn runtime<T, E>(
        &self,
        operation_type: &'static str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (label, began) = (OperationType { operation_type }, Instant::now());
        let result = call.await;
        self.runtime.get_or_create(&label).inc();
        if result.is_err() {
            self.runtime_errors.get_or_create(&label).inc();
        }
        self.runtime_seconds.get_or_create(&label).observe(began.elapsed().as_secs_f64());
        result
    }

    /// A pod's worker has decided, done and told once.
    pub fn round(&self, operation_type: &'static str, took: Duration) {
        self.rounds.get_or_create(&OperationType { operation_type }).observe(took.as_secs_f64());
    }

    /// A pod's worker runs, so long after the pod was seen.
    pub fn worker_started(&self, after: Duration) {
        self.worker_start.observe(after.as_secs_f64());
    }

    /// The API server has taken a status.
    pub fn status_told(&self, took: Duration) {
        self.status_sync.observe(took.as_secs_f64());
    }

    /// A pod was not taken.
    pub fn rejected(&self, reason: &str) {
        self.rejections.get_or_create(&Reason { reason: reason.to_owned() }).inc();
    }

    /// A request was answered, or not: then the code is `<error>`, as client-go has it.
    pub fn requested(&self, code: Option<http::StatusCode>, method: &http::Method, host: &str) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.as_str().to_owned());
        let request = Request { code, method: method.to_string(), host: host.to_owned() };
        self.requests.get_or_create(&request).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode_registry;

    use super::*;

    #[tokio::test]
    async fn what_is_done_is_counted_under_the_names_that_dashboards_know() {
        let operations = Operations::default();
        let _: Result<(), ()> = operations.runtime("start_container", async { Ok(()) }).await;
        let _: Result<(), ()> = operations.runtime("start_container", async { Err(()) }).await;
        operations.round("sync", Duration::from_millis(7));
        operations.rejected("OutOfcpu");
        operations.requested(Some(http::StatusCode::CREATED), &http::Method::POST, "10.0.0.1:6443");
        operations.requested(None, &http::Method::GET, "10.0.0.1:6443");
        let mut registry = Registry::default();
        operations.register(&mut registry);
        let mut text = String::new();
        encode_registry(&mut text, &registry).unwrap();
        for line in [
            "kubelet_runtime_operations_total{operation_type=\"start_container\"} 2\n",
            "kubelet_runtime_operations_errors_total{operation_type=\"start_container\"} 1\n",
            "kubelet_runtime_operations_duration_seconds_count{operation_type=\"start_container\"} 2\n",
            "kubelet_pod_worker_duration_seconds_bucket{le=\"0.01\",operation_type=\"sync\"} 1\n",
            "kubelet_pod_worker_duration_seconds_bucket{le=\"0.005\",operation_type=\"sync\"} 0\n",
            "kubelet_admission_rejections_total{reason=\"OutOfcpu\"} 1\n",
            "rest_client_requests_total{code=\"201\",method=\"POST\",host=\"10.0.0.1:6443\"} 1\n",
            "rest_client_requests_total{code=\"<error>\",method=\"GET\",host=\"10.0.0.1:6443\"} 1\n",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
