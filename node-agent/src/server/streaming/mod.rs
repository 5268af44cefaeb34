//! `/exec`, `/attach`: streams between a client and a process, over a WebSocket (kubelet: `server/remotecommand`).
//!
//! ```text
//!  kubectl --WebSocket--> API server --the same WebSocket--> session --fifos--> process
//!                          (the Node declares ExtendWebSocketsToKubelet)
//! ```
//! [`query`] reads what is asked, [`protocol`] is the frames, [`outcome`] what is told at the end, [`session`] the pump
//! between socket and pipes; `exec` and `attach` say what the pipes are.
//!
//! # Guarantees
//! - A client that goes away ends its exec: the process is killed. An attached container goes on.
//! - All that a process wrote before its end is sent before its end is told.
//!
//! # Caveats
//! - SPDY is not spoken: an API server before 1.36, which would translate to it, gets 400 with words that say so.
//! - What `attach` shows is read from the container's log, so it begins with the next line or piece of a line written, and
//!   any number may attach at once. Input goes to the container itself, if its spec has `stdin: true`.

mod attach;
mod exec;
mod fifo;
mod outcome;
mod protocol;
mod query;
mod session;

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;

use super::logs::has_container;
use super::reply::refuse;
use super::{Parts, Process};
use protocol::Protocol;
use query::Wanted;

/// `{namespace}/{pod}/{container}`, or with the pod's uid before the container.
type ContainerPath = Path<Vec<String>>;
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// A further process in a container.
pub(super) async fn exec(
    State(parts): State<Arc<Parts>>,
    Path(path): ContainerPath,
    RawQuery(raw): RawQuery,
    upgrade: Upgrade,
) -> Response {
    let query = raw.unwrap_or_default();
    match accept(&parts, &path, &query, upgrade) {
        Ok(Accepted { process, wanted, protocol, upgrade, .. }) => {
            let command = query::command(&query);
            if command.is_empty() {
                return refuse(StatusCode::BAD_REQUEST, "no command is given");
            }
            let dir = sessions(&parts.run_dir);
            upgrade.on_upgrade(move |socket| exec::run(socket, protocol, exec::Exec { process, command, wanted, dir }))
        }
        Err(refusal) => refusal,
    }
}

/// A container's own streams.
pub(super) async fn attach(
    State(parts): State<Arc<Parts>>,
    Path(path): ContainerPath,
    RawQuery(raw): RawQuery,
    upgrade: Upgrade,
) -> Response {
    match accept(&parts, &path, &raw.unwrap_or_default(), upgrade) {
        Ok(Accepted { pod, container, process, wanted, protocol, upgrade }) => {
            let subject = attach::Attach::new(&parts, &pod, &container, process, wanted);
            upgrade.on_upgrade(move |socket| attach::run(socket, protocol, subject))
        }
        Err(refusal) => refusal,
    }
}

/// SPDY clients post. So does kubectl when its WebSocket was refused, and shows only the second answer: what is wrong with the
/// container comes first.
pub(super) async fn only_websocket(State(parts): State<Arc<Parts>>, Path(path): ContainerPath) -> Response {
    match target(&parts, &path) {
        Ok(_) => refuse(StatusCode::BAD_REQUEST, NO_SPDY),
        Err(refusal) => refusal,
    }
}

const NO_SPDY: &str = "unable to upgrade: this node speaks WebSocket (v5.channel.k8s.io, v4.channel.k8s.io), not SPDY; the API \
    server passes a WebSocket on from Kubernetes 1.36 (ExtendWebSocketsToKubelet)";

/// Removes what sessions of an earlier agent left.
pub(super) fn clean_up(run_dir: &FilePath) {
    match std::fs::remove_dir_all(sessions(run_dir)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "removing old exec sessions")
        }
        Ok(()) | Err(_) => {}
    }
}

fn sessions(run_dir: &FilePath) -> std::path::PathBuf {
    run_dir.join("exec")
}

/// A request that will become a session.
struct Accepted {
    pod: Arc<Pod>,
    container: String,
    process: Process,
    wanted: Wanted,
    protocol: Protocol,
    upgrade: WebSocketUpgrade,
}

/// The container that a path names, if it runs.
#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn target(parts: &Parts, path: &[String]) -> Result<(Arc<Pod>, String, Process), Response> {
    let (namespace, name, uid, container) = match path {
        [namespace, name, container] => (namespace, name, None, container),
        [namespace, name, uid, container] => (namespace, name, Some(uid), container),
        _ => return Err(refuse(StatusCode::NOT_FOUND, "expected namespace, pod and container")),
    };
    let is_it = |pod: &Arc<Pod>| uid.is_none() || pod.metadata.uid.as_ref() == uid;
    let pod = parts.workloads.pod(namespace, name).filter(is_it);
    let pod = pod.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "pod does not exist"))?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let process = parts.workloads.process(&uid, container).filter(|_| has_container(&pod, container));
    let process =
        process.ok_or_else(|| refuse(StatusCode::NOT_FOUND, format!("container not found ({container:?})")))?;
    Ok((pod, container.clone(), process))
}

/// Everything that can be refused with an HTTP status is refused here.
#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn accept(parts: &Parts, path: &[String], query: &str, upgrade: Upgrade) -> Result<Accepted, Response> {
    let (pod, container, process) = target(parts, path)?;
    let wanted = query::wanted(query).map_err(|error| refuse(StatusCode::BAD_REQUEST, error))?;
    let mut upgrade = upgrade.map_err(|_rejection| refuse(StatusCode::BAD_REQUEST, NO_SPDY))?;
    let asked: Vec<String> =
        upgrade.requested_protocols().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
    let (name, protocol) = Protocol::choose(&asked)
        .ok_or_else(|| refuse(StatusCode::FORBIDDEN, format!("none of the subprotocols {asked:?} is known here")))?;
    if let Some(name) = name {
        upgrade.set_selected_protocol(http::HeaderValue::from_static(name));
    }
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE);
    Ok(Accepted { pod, container, process, wanted, protocol, upgrade })
}

/// Clients send 32 KiB at a time; base64 makes it more.
const LARGEST_MESSAGE: usize = 1 << 20;
