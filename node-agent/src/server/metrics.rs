//! `/metrics` and `/metrics/probes`, in the OpenMetrics text format.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Parts, Workloads, reply};
use crate::metrics::{ProcessUse, agent};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Node {
    node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    container_state: &'static str,
}

/// What the agent counts, and what is there now.
pub(super) async fn own(State(parts): State<Arc<Parts>>) -> Response {
    let mut now = Registry::default();
    register_now(&mut now, &parts.node_name, &*parts.workloads);
    ProcessUse::measure().register(&mut now);
    agent().certificates.register(&mut now, jiff::Timestamp::now());
    reply::metrics(agent().with_registry(|counted| text(&[counted, &now])))
}

/// How often probes were tried.
pub(super) async fn probes() -> Response {
    reply::metrics(text(&[&agent().probes.registry()]))
}

fn register_now(registry: &mut Registry, node_name: &str, workloads: &dyn Workloads) {
    let name = Family::<Node, Gauge>::default();
    name.get_or_create(&Node { node: node_name.to_owned() }).set(1);
    registry.register("kubelet_node_name", "The node's name. The count is always 1", name);

    let (mut pods, mut containers, mut desired) = (0, 0, 0);
    for pod in workloads.pods() {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let spec = pod.spec.iter();
        let names = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let running = names.filter(|container| workloads.process(uid, &container.name).is_some()).count();
        desired += 1;
        containers += i64::try_from(running).unwrap_or(i64::MAX);
        pods += i64::from(running > 0);
    }
    let states = Family::<InState, Gauge>::default();
    states.get_or_create(&InState { container_state: "running" }).set(containers);
    registry.register("kubelet_running_containers", "Number of containers currently running", states);
    for (name, help, value) in [
        ("kubelet_running_pods", "Number of pods that have a running pod sandbox", pods),
        (
            "kubelet_working_pods",
            "Number of pods the kubelet is actually running, broken down by lifecycle phase",
            desired,
        ),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

fn text(registries: &[&Registry]) -> String {
    let mut text = String::new();
    // A String takes all.
    for registry in registries {
        let _infallible = encode_registry(&mut text, registry);
    }
    let _infallible = encode_eof(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::super::Process;
    use super::*;

    struct Idle;

    impl Workloads for Idle {
        fn pods(&self) -> Vec<Arc<k8s_openapi::api::core::v1::Pod>> {
            vec![Arc::default()]
        }

        fn process(&self, _uid: &str, _container: &str) -> Option<Process> {
            None
        }

        fn healthy(&self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn what_is_there_now_is_told_under_the_kubelets_names() {
        let mut registry = Registry::default();
        register_now(&mut registry, "n1", &Idle);
        let expected = "\
# HELP kubelet_node_name The node's name. The count is always 1.
# TYPE kubelet_node_name gauge
kubelet_node_name{node=\"n1\"} 1
# HELP kubelet_running_containers Number of containers currently running.
# TYPE kubelet_running_containers gauge
kubelet_running_containers{container_state=\"running\"} 0
# HELP kubelet_running_pods Number of pods that have a running pod sandbox.
# TYPE kubelet_running_pods gauge
kubelet_running_pods 0
# HELP kubelet_working_pods Number of pods the kubelet is actually running, broken down by lifecycle phase.
# TYPE kubelet_working_pods gauge
kubelet_working_pods 1
# EOF
";
        assert_eq!(text(&[&registry]), expected);
    }

    #[test]
    fn what_the_agent_counts_has_the_kubelets_names() {
        let metrics = crate::metrics::Metrics::default();
        metrics.container_started(false);
        metrics.container_not_started(true, "ErrImagePull");
        metrics.container_terminated(false, 137);
        metrics.pod_runs(std::time::Duration::from_millis(700));
        let text = metrics.with_registry(|registry| text(&[registry]));
        for name in [
            "kubelet_started_pods_total 0\n",
            "kubelet_pod_start_duration_seconds_bucket{le=\"0.5\"} 0\n",
            "kubelet_pod_start_duration_seconds_bucket{le=\"1.0\"} 1\n",
            "kubelet_started_containers_total{container_type=\"container\"} 1\n",
            "kubelet_started_containers_errors_total{container_type=\"init_container\",code=\"ErrImagePull\"} 1\n",
            "kubelet_certificate_manager_client_expiration_renew_errors 0\n",
            "kubelet_terminated_containers_total{container_type=\"container\",exit_code=\"137\"} 1\n",
        ] {
            assert!(text.contains(name), "no {name} in\n{text}");
        }
    }
}
