//! Path to handler.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use super::{Parts, access, health, logs, pods};

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
        .with_state(parts)
        .merge(health)
        .layer(axum::middleware::from_fn_with_state(guard, access::check))
}
