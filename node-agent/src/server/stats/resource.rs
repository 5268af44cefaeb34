//! `/metrics/resource` (kubelet: `metrics/collectors/resource_metrics.go`), names and labels as there.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Measured;

type Seconds<L> = Family<L, Counter<f64, AtomicU64>>;
type Amount<L> = Family<L, Gauge<f64, AtomicU64>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Container {
    container: String,
    namespace: String,
    pod: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pod {
    namespace: String,
    pod: String,
}

/// `None`: nothing could be measured, which `resource_scrape_error` tells.
pub(super) fn text(measured: Option<&Measured>) -> String {
    let mut registry = Registry::default();
    if let Some(measured) = measured {
        containers(&mut registry, measured);
        pods(&mut registry, measured);
        node(&mut registry, measured);
    }
    let failed = Gauge::<i64>::default();
    failed.set(i64::from(measured.is_none()));
    registry.register(
        "resource_scrape_error",
        "1 if there was an error while getting container metrics, 0 otherwise",
        failed,
    );
    let mut text = String::new();
    // A String takes all.
    let _infallible = encode(&mut text, &registry);
    text
}

fn containers(registry: &mut Registry, measured: &Measured) {
    let (cpu, memory, started) = (Seconds::default(), Amount::default(), Amount::default());
    for pod in &measured.pods {
        for container in &pod.containers {
            let labels = Container {
                container: container.name.clone(),
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
            };
            cpu.get_or_create(&labels).inc_by(seconds(container.used.cpu.nanos));
            memory.get_or_create(&labels).set(bytes(container.used.working_set));
            if let Some(at) = container.started_at {
                started.get_or_create(&labels).set(unix(at));
            }
        }
    }
    registry.register(
        "container_cpu_usage_seconds",
        "Cumulative cpu time consumed by the container in core-seconds",
        cpu,
    );
    registry.register("container_memory_working_set_bytes", "Current working set of the container in bytes", memory);
    registry.register(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds",
        started,
    );
}

fn pods(registry: &mut Registry, measured: &Measured) {
    let (cpu, memory) = (Seconds::default(), Amount::default());
    for pod in &measured.pods {
        let labels = Pod { namespace: pod.namespace.clone(), pod: pod.name.clone() };
        cpu.get_or_create(&labels).inc_by(seconds(pod.used.cpu.nanos));
        memory.get_or_create(&labels).set(bytes(pod.used.working_set));
    }
    registry.register("pod_cpu_usage_seconds", "Cumulative cpu time consumed by the pod in core-seconds", cpu);
    registry.register("pod_memory_working_set_bytes", "Current working set of the pod in bytes", memory);
}

fn node(registry: &mut Registry, measured: &Measured) {
    let cpu = Counter::<f64, AtomicU64>::default();
    cpu.inc_by(seconds(measured.node.cpu.nanos));
    let memory = Gauge::<f64, AtomicU64>::default();
    memory.set(bytes(measured.node.memory.total.saturating_sub(measured.node.memory.available)));
    registry.register("node_cpu_usage_seconds", "Cumulative cpu time consumed by the node in core-seconds", cpu);
    registry.register("node_memory_working_set_bytes", "Current working set of the node in bytes", memory);
}

#[expect(clippy::cast_precision_loss, reason = "a float holds nanoseconds of 104 days exactly, and then nearly")]
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "a float holds 8 PiB exactly")]
pub(super) fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(clippy::cast_precision_loss, reason = "to the millisecond")]
pub(super) fn unix(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::measured;
    use super::*;

    #[test]
    fn the_text_is_what_metrics_server_reads() {
        let expected = "\
# HELP container_cpu_usage_seconds Cumulative cpu time consumed by the container in core-seconds.
# TYPE container_cpu_usage_seconds counter
container_cpu_usage_seconds_total{container=\"app\",namespace=\"default\",pod=\"web\"} 0.002
# HELP container_memory_working_set_bytes Current working set of the container in bytes.
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container=\"app\",namespace=\"default\",pod=\"web\"} 8192.0
# HELP container_start_time_seconds Start time of the container since unix epoch in seconds.
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container=\"app\",namespace=\"default\",pod=\"web\"} 1767322801.5
# HELP pod_cpu_usage_seconds Cumulative cpu time consumed by the pod in core-seconds.
# TYPE pod_cpu_usage_seconds counter
pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} 0.003
# HELP pod_memory_working_set_bytes Current working set of the pod in bytes.
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 16384.0
# HELP node_cpu_usage_seconds Cumulative cpu time consumed by the node in core-seconds.
# TYPE node_cpu_usage_seconds counter
node_cpu_usage_seconds_total 1.5
# HELP node_memory_working_set_bytes Current working set of the node in bytes.
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 600.0
# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise.
# TYPE resource_scrape_error gauge
resource_scrape_error 0
# EOF
";
        assert_eq!(text(Some(&measured())), expected);
    }

    #[test]
    fn what_cannot_be_measured_is_told_and_not_made_up() {
        let text = text(None);
        assert!(text.contains("resource_scrape_error 1\n"));
        assert!(!text.contains("node_cpu_usage_seconds"));
    }
}
