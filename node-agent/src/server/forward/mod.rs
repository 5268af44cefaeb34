//! `/portForward`: TCP connections of a client to a pod's ports, over a WebSocket that carries SPDY/3.1 (kubelet:
//! `cri-streaming/portforward`; k8s: `apiserver/pkg/util/proxy/doc.go`).
//!
//! ```text
//!  kubectl --WebSocket--> API server --the same WebSocket--> session --TCP--> pod
//!            [ SPDY frames: for each connection a stream of data and one for what goes wrong ]
//! ```
//! [`frames`] and [`headers`] are the protocol, [`streams`] says what a frame asks for, [`session`] does it.
//!
//! # Caveats
//! - SPDY without a WebSocket around it is not spoken: kubectl falls back to it only when told to.
//! - SPDY's windows are not kept: no client of Kubernetes does. A connection whose pod does not read holds up the others of
//!   its session once 16 pieces wait.
//! - Connections go to the pod's address, and to its own loopback address where nobody listens on the first: the guest sees
//!   them come from this machine, or from itself.

mod frames;
mod headers;
mod session;
mod streams;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use samara_shim_client::annotations::POD_LOOPBACK;

use super::Parts;
use super::reply::refuse;

/// The one subprotocol.
const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// Frames come in pieces of 32 KiB.
const LARGEST_MESSAGE: usize = 1 << 20;
const NO_SPDY: &str = "unable to upgrade: this node forwards ports over WebSocket (SPDY/3.1+portforward.k8s.io), not over plain \
    SPDY; the API server passes a WebSocket on from Kubernetes 1.36 (ExtendWebSocketsToKubelet)";

/// Whom connections are for.
#[derive(Debug, Clone)]
struct Target {
    ip: IpAddr,
    /// What 127.0.0.1 means to the pod, and the network namespace in which that is known.
    loopback: Option<(PathBuf, IpAddr)>,
    /// `namespace/name`, and the UID: for messages.
    name: String,
    uid: String,
}

/// `{namespace}/{pod}`, or with the pod's uid behind it.
pub(super) async fn serve(
    State(parts): State<Arc<Parts>>,
    Path(path): Path<Vec<String>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let target = match target(&parts, &path) {
        Ok(target) => target,
        Err((status, message)) => return refuse(status, message),
    };
    let Ok(mut upgrade) = upgrade else { return refuse(StatusCode::BAD_REQUEST, NO_SPDY) };
    let asked =
        |name: &http::HeaderValue| name.to_str().is_ok_and(|name| name.split(',').any(|one| one.trim() == PROTOCOL));
    if !upgrade.requested_protocols().any(asked) {
        return refuse(StatusCode::FORBIDDEN, format!("the subprotocol must be {PROTOCOL}"));
    }
    upgrade.set_selected_protocol(http::HeaderValue::from_static(PROTOCOL));
    tracing::info!(pod = target.name, "port-forward");
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE);
    upgrade.on_upgrade(move |socket| session::run(socket, target))
}

/// What is wrong with the pod comes before what is wrong with the request, whose second try a client shows.
fn target(parts: &Parts, path: &[String]) -> Result<Target, (StatusCode, &'static str)> {
    let (namespace, name, uid) = match path {
        [namespace, name] => (namespace, name, None),
        [namespace, name, uid] => (namespace, name, Some(uid)),
        _ => return Err((StatusCode::NOT_FOUND, "expected namespace and pod")),
    };
    let is_it = |pod: &Arc<Pod>| uid.is_none() || pod.metadata.uid.as_ref() == uid;
    let pod = parts.workloads.pod(namespace, name).filter(is_it);
    let pod = pod.ok_or((StatusCode::NOT_FOUND, "pod does not exist"))?;
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
    Ok(Target {
        loopback: loopback(parts, &pod),
        ip: ip.ok_or((StatusCode::NOT_FOUND, "the pod has no address yet"))?,
        name: format!("{namespace}/{name}"),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    })
}

/// As the spec of any of its running containers has it.
fn loopback(parts: &Parts, pod: &Pod) -> Option<(PathBuf, IpAddr)> {
    let uid = pod.metadata.uid.as_deref()?;
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let process = containers.find_map(|container| parts.workloads.process(uid, &container.name))?;
    let spec = Spec::load(process.bundle.config()).ok()?;
    let address = spec.annotations().as_ref()?.get(POD_LOOPBACK)?.parse().ok()?;
    let namespaces = spec.linux().as_ref()?.namespaces().clone()?;
    let network = namespaces.into_iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Network)?;
    Some((network.path().clone()?, address))
}
