//! `/containerLogs/{namespace}/{pod}/{container}`: what `kubectl logs` shows.
//!
//! `query` reads the options, `source` decides which file they mean, `reader` sends it and, asked to, goes on with
//! it until the container ends, across rotations.

pub(super) mod query;
mod reader;
mod rotated;
mod source;
mod tail;

pub use reader::{Follow, read};
pub(super) use source::has_container;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jiff::Timestamp;

use super::Parts;
use super::reply::refuse;

/// Streams a container's log.
pub(super) async fn serve(
    State(parts): State<Arc<Parts>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    RawQuery(raw): RawQuery,
) -> Response {
    let options = match query::parse(raw.as_deref().unwrap_or_default(), Timestamp::now()) {
        Ok(options) => options,
        Err(query::QueryError::Undecodable) => {
            return refuse(StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#);
        }
        Err(query::QueryError::Invalid) => {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#);
        }
    };
    let Some(pod) = parts.workloads.pod(&namespace, &name) else {
        return refuse(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    };
    if !source::has_container(&pod, &container) {
        return refuse(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {name:?}"));
    }
    let attempt = match source::attempt(&pod, &container, options.previous) {
        Ok(attempt) => attempt,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let path = source::path(&parts.pod_logs_dir, &namespace, &name, &uid, &container, attempt);
    let workloads = parts.workloads.clone();
    let running: Follow =
        Box::new(move || workloads.process(&uid, &container).is_some_and(|process| process.attempt == attempt));
    match read(&path, options, running).await {
        Ok(lines) => ([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(lines)).into_response(),
        Err(error) => refuse(
            StatusCode::BAD_REQUEST,
            format!("failed to open log file {:?}: {error}", path.display().to_string()),
        ),
    }
}
