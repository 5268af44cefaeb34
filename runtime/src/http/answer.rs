//! One request's way through the guest, as the io thread sees it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime_wasi_http::{Error, WasiBody};

use super::queue::Queue;
use super::watch::Watch;

/// A request, and where its answer goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request<Incoming>,
    pub(super) reply: Reply,
    /// Cancelled when nobody waits for the answer, or for the rest of it, any more.
    pub(super) gone: CancellationToken,
}

/// The one answer to a request; shared by the guest's response handle and the worker, whoever is first.
#[derive(Debug, Clone)]
pub(super) struct Reply(Arc<Mutex<Option<oneshot::Sender<Response<WasiBody>>>>>);

impl Reply {
    /// `false` if there already was an answer.
    pub(super) fn send(&self, response: Response<WasiBody>) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.is_some_and(|sender| sender.send(response).is_ok())
    }

    pub(super) fn is_sent(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Job {
    /// Whether the client still waits.
    pub(super) fn is_wanted(&self) -> bool {
        !self.gone.is_cancelled()
    }

    /// What messages call it.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.request.method(), self.request.uri().path())
    }
}

/// Body of an answer. When it is dropped, sent or not, the guest is told that nobody reads on.
pub(super) struct AnswerBody {
    inner: WasiBody,
    _gone: DropGuard,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Hands the request to a worker and waits for the guest's answer, at most `timeout`.
pub(super) async fn answer(
    request: Request<Incoming>,
    queue: &Queue,
    watch: &Watch,
    timeout: Duration,
) -> Response<AnswerBody> {
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let finish = |response: Response<WasiBody>| response.map(|inner| AnswerBody { inner, _gone: guard });
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        return finish(plain(StatusCode::BAD_REQUEST, "a request needs a Host header"));
    }
    let (sender, receiver) = oneshot::channel();
    let job = Job { request, reply: Reply(Arc::new(Mutex::new(Some(sender)))), gone };
    if queue.push(job).is_err() {
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return finish(response);
    }
    let response = match tokio::time::timeout(timeout, receiver).await {
        Ok(Ok(response)) => response,
        Ok(Err(_worker_gave_up)) => failed(),
        Err(_elapsed) => {
            watch.suspect();
            plain(StatusCode::GATEWAY_TIMEOUT, "the guest did not answer in time")
        }
    };
    finish(response)
}

/// What a client gets when the guest failed: nothing of its insides.
pub(super) fn failed() -> Response<WasiBody> {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "the guest failed to answer")
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
