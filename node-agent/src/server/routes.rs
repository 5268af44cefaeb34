//! Path to handler.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{any, get};

use super::{Parts, access, forward, health, logs, metrics, pods, reply, stats, streaming};

/// Everything on the node's port. Nothing is served before [`access::check`].
pub(super) fn router(parts: Arc<Parts>, guard: access::Guard) -> Router {
    let health = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/healthz/ping", get(health::ping))
        .route("/healthz/log", get(health::ping))
        .route("/healthz/syncloop", get(health::healthz))
        .with_state(parts.workloads.clone());
    Router::new()
        .route("/pods", get(pods::all))
        .route("/pods/", get(pods::all))
        .route("/runningpods", get(pods::running))
        .route("/runningpods/", get(pods::running))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
        .route("/exec/{namespace}/{pod}/{container}", get(streaming::exec).post(streaming::only_websocket))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", get(streaming::exec).post(streaming::only_websocket))
        .route("/attach/{namespace}/{pod}/{container}", get(streaming::attach).post(streaming::only_websocket))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", get(streaming::attach).post(streaming::only_websocket))
        .route("/portForward/{namespace}/{pod}", any(forward::serve))
        .route("/portForward/{namespace}/{pod}/{uid}", any(forward::serve))
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(metrics::own))
        .route("/metrics/resource", get(stats::resource))
        .route("/metrics/cadvisor", get(stats::cadvisor))
        .route("/metrics/probes", get(metrics::probes))
        .route("/configz", get(configz))
        .with_state(parts)
        .merge(health)
        .layer(axum::middleware::from_fn_with_state(guard, access::check))
}

async fn configz(State(parts): State<Arc<Parts>>) -> Response {
    reply::json(parts.configz.to_string())
}
