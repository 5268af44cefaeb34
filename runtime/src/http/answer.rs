//! One request's way through the guest, as the io thread sees it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::bell::Bell;
use super::exchange::{Asker, Promise, exchange};
use super::queue::Queue;
use super::request::{BodyLimits, RequestBody, TOO_LARGE};
use super::watch::Watch;

/// A request, and where its answer goes.
pub(super) struct Job {
    pub(super) request: Request<RequestBody>,
    pub(super) promise: Promise,
}

/// With a body that is all there already in one piece: the client gets it in one packet, and its length.
pub(super) fn gathered(response: Response<WasiBody>) -> Response<WasiBody> {
    let (parts, mut body) = response.into_parts();
    let mut pieces = Vec::new();
    let body = loop {
        match body.frame().now_or_never() {
            Some(None) => break whole(pieces),
            Some(Some(frame)) => {
                let is_plain = frame.as_ref().is_ok_and(Frame::is_data);
                pieces.push(frame);
                if !is_plain || pieces.len() == MOST_PIECES {
                    break begun(pieces, body);
                }
            }
            None => break begun(pieces, body),
        }
    };
    Response::from_parts(parts, body)
}

/// Pieces gathered before the first is sent.
const MOST_PIECES: usize = 16;

type Piece = Result<Frame<Bytes>, Error>;

fn whole(pieces: Vec<Piece>) -> WasiBody {
    let mut data = pieces.into_iter().filter_map(|piece| piece.ok()?.into_data().ok());
    let mut first = data.next().unwrap_or_default();
    for more in data {
        let mut joined = BytesMut::from(first);
        joined.extend_from_slice(&more);
        first = joined.freeze();
    }
    Full::new(first).map_err(|never| match never {}).boxed_unsync()
}

fn begun(pieces: Vec<Piece>, rest: WasiBody) -> WasiBody {
    if pieces.is_empty() {
        return rest;
    }
    let rest = futures::stream::unfold(rest, async |mut rest| Some((rest.frame().await?, rest)));
    StreamBody::new(futures::stream::iter(pieces).chain(rest)).boxed_unsync()
}

impl Job {
    /// Whether the client still waits.
    pub(super) fn is_wanted(&self) -> bool {
        !self.promise.reply().is_abandoned()
    }

    /// What messages call it.
    pub(super) fn name(&self) -> Name {
        Name { method: self.request.method().clone(), uri: self.request.uri().clone() }
    }
}

/// What messages call a request: its method and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.uri.path())
    }
}

/// Body of an answer. When it is dropped, sent or not, the guest is told that nobody reads on.
pub(super) struct AnswerBody {
    inner: WasiBody,
    _asker: Option<Asker>,
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

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestLimits {
    pub(super) body: BodyLimits,
    /// Time until the guest has begun its answer.
    pub(super) timeout: Duration,
}

/// Hands the request to a worker and waits for the guest's answer, within the limits.
pub(super) async fn answer(
    request: Request<Incoming>,
    queue: &Queue,
    watch: &Watch,
    bell: &Arc<Bell>,
    limits: RequestLimits,
) -> Response<AnswerBody> {
    if let Some(refusal) = refused(&request, limits.body.most) {
        return refusal.map(|inner| AnswerBody { inner, _asker: None });
    }
    let (asker, promise) = exchange(bell);
    let request = request.map(|body| RequestBody::new(body, limits.body, promise.reply().clone()));
    if !queue.push(Job { request, promise }) {
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response.map(|inner| AnswerBody { inner, _asker: None });
    }
    let response = match tokio::time::timeout(limits.timeout, asker.answer()).await {
        Ok(response) => response,
        Err(_elapsed) => {
            watch.suspect();
            plain(StatusCode::GATEWAY_TIMEOUT, "the guest did not answer in time")
        }
    };
    response.map(|inner| AnswerBody { inner, _asker: Some(asker) })
}

/// What the guest need not be asked.
fn refused(request: &Request<Incoming>, most: Option<u64>) -> Option<Response<WasiBody>> {
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        return Some(plain(StatusCode::BAD_REQUEST, "a request needs a Host header"));
    }
    let announced = request.body().size_hint().lower();
    most.is_some_and(|most| announced > most).then(|| plain(TOO_LARGE.0, TOO_LARGE.1))
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
