//! One request's way through the guest, as the io thread sees it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
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

/// The one answer to a request: given by the guest's response handle or by the worker, whoever is first, and released
/// to the io thread when the guest waits.
#[derive(Debug, Clone)]
pub(super) struct Reply(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Awaited(oneshot::Sender<Response<WasiBody>>),
    Given(oneshot::Sender<Response<WasiBody>>, Response<WasiBody>),
    Released,
}

impl Reply {
    fn new(sender: oneshot::Sender<Response<WasiBody>>) -> Self {
        Self(Arc::new(Mutex::new(State::Awaited(sender))))
    }

    /// The first answer counts.
    pub(super) fn give(&self, response: Response<WasiBody>) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Released) {
            State::Awaited(sender) => State::Given(sender, response),
            given @ (State::Given(..) | State::Released) => given,
        };
    }

    /// Whether there is an answer.
    pub(super) fn is_given(&self) -> bool {
        !matches!(*self.lock(), State::Awaited(_))
    }

    /// Lets a given answer go.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Released) {
            State::Given(sender, response) => {
                // The client may have gone.
                let _ = sender.send(gathered(response));
                State::Released
            }
            other @ (State::Awaited(_) | State::Released) => other,
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With a body that is all there already in one piece: the client gets it in one packet, and its length.
fn gathered(response: Response<WasiBody>) -> Response<WasiBody> {
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
    let job = Job { request, reply: Reply::new(sender), gone };
    if !queue.push(job) {
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
