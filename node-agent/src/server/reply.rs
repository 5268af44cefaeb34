//! Plain answers.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// A refusal in words, as the kubelet gives them: plain text, one line.
pub(super) fn refuse(status: StatusCode, message: impl std::fmt::Display) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{message}\n")).into_response()
}

/// OpenMetrics text.
pub(super) fn metrics(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

/// A body that is already JSON.
pub(super) fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
