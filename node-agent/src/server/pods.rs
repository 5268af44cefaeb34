//! `/pods` and `/runningpods/`: a `v1.PodList`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde_json::json;

use super::Parts;
use super::reply::{self, refuse};

/// All pods bound to this node, with the status that the node knows.
pub(super) async fn all(State(parts): State<Arc<Parts>>) -> Response {
    list(&parts.workloads.pods())
}

/// Only what runs: identity, and the containers that have a process.
pub(super) async fn running(State(parts): State<Arc<Parts>>) -> Response {
    let mut pods = Vec::new();
    for pod in parts.workloads.pods() {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let runs = |container: &&Container| parts.workloads.process(&uid, &container.name).is_some();
        let containers: Vec<_> = pod.spec.iter().flat_map(containers).filter(runs).map(identity).collect();
        if !containers.is_empty() {
            pods.push(Arc::new(shown(&pod, containers)));
        }
    }
    list(&pods)
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn identity(container: &Container) -> Container {
    Container { name: container.name.clone(), image: container.image.clone(), ..Container::default() }
}

fn shown(pod: &Pod, containers: Vec<Container>) -> Pod {
    let mut shown = Pod::default();
    shown.metadata.name.clone_from(&pod.metadata.name);
    shown.metadata.namespace.clone_from(&pod.metadata.namespace);
    shown.metadata.uid.clone_from(&pod.metadata.uid);
    shown.spec = Some(PodSpec { containers, ..PodSpec::default() });
    shown
}

fn list(pods: &[Arc<Pod>]) -> Response {
    let items: Result<Vec<_>, _> = pods.iter().map(|pod| serde_json::to_value(&**pod)).collect();
    match items {
        Ok(items) => {
            reply::json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}).to_string())
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}
