//! A request's body on its way to the guest: no larger than it may be, and from a client that goes on sending.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::Error;

use super::answer::plain;
use super::exchange::Reply;

/// What a request's body may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BodyLimits {
    /// Bytes, if there is a limit.
    pub(super) most: Option<u64>,
    /// Time in which at least something has to arrive while the guest waits for it.
    pub(super) patience: Duration,
}

/// What a client is told whose body is too large.
pub(super) const TOO_LARGE: (StatusCode, &str) = (StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large");

/// See the module.
pub(super) struct RequestBody {
    inner: Incoming,
    limits: BodyLimits,
    read: u64,
    waiting: Option<Pin<Box<Sleep>>>,
    reply: Reply,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, limits: BodyLimits, reply: Reply) -> Self {
        Self { inner, limits, read: 0, waiting: None, reply }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(this.limits.patience)));
            return waiting.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)));
        };
        this.waiting = None;
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.read = this.read.saturating_add(data.len() as u64);
            if this.limits.most.is_some_and(|most| this.read > most) {
                // If the guest has not answered yet, this is the answer.
                let (status, text) = TOO_LARGE;
                this.reply.give(plain(status, text));
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(this.read)))));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
