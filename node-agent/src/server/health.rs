//! `/healthz`: whether pods are being looked after. Also what the systemd watchdog goes by.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;

use super::Workloads;
use super::reply::refuse;

/// On loopback, without authentication.
pub(super) fn router(workloads: Arc<dyn Workloads>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/healthz/ping", get(ping))
        .route("/healthz/syncloop", get(healthz))
        .with_state(workloads)
}

/// 200 and `ok`, or 500 and what is wrong.
pub(super) async fn healthz(State(workloads): State<Arc<dyn Workloads>>) -> Response {
    match workloads.healthy() {
        Ok(()) => "ok".into_response(),
        Err(trouble) => refuse(StatusCode::INTERNAL_SERVER_ERROR, trouble),
    }
}

/// The server itself answers.
pub(super) async fn ping() -> &'static str {
    "ok"
}
