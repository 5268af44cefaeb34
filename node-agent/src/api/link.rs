//! One HTTP/2 connection, its streams counted.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncWrite};

/// Without a word from the server for this long it is pinged, and given up after the same time again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A connection. Dropping it lets the running streams end; new ones go elsewhere.
#[derive(Debug)]
pub(super) struct Link {
    sender: http2::SendRequest<Body>,
    streams: Arc<AtomicUsize>,
    limit: Arc<AtomicUsize>,
    /// Which identity it was opened with.
    pub(super) generation: u64,
}

impl Link {
    /// HTTP/2 over an open connection.
    pub(super) async fn open<T>(io: T, generation: u64) -> hyper::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(1 << 22)
            .handshake(TokioIo::new(io))
            .await?;
        let limit = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let granted = limit.clone();
        tokio::spawn(async move {
            let ended = std::future::poll_fn(|cx| {
                let ended = pin!(&mut connection).poll(cx);
                granted.store(connection.current_max_send_streams(), Ordering::Relaxed);
                ended
            })
            .await;
            if let Err(error) = ended {
                tracing::debug!(%error, "connection to the API server ended");
            }
        });
        Ok(Self { sender, streams: Arc::default(), limit, generation })
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// A stream, if one is free.
    pub(super) fn stream(&self) -> Option<Stream> {
        let limit = self.limit.load(Ordering::Relaxed);
        let taken = self.streams.fetch_add(1, Ordering::Relaxed);
        let stream = Stream { sender: self.sender.clone(), _held: Held(self.streams.clone()) };
        (taken < limit).then_some(stream)
    }
}

/// The right to one request.
#[derive(Debug)]
pub(super) struct Stream {
    sender: http2::SendRequest<Body>,
    _held: Held,
}

impl Stream {
    /// Sends; the stream is held until the response's body has ended or is dropped.
    pub(super) async fn send(
        mut self,
        request: Request<Body>,
    ) -> Result<Response<Counted>, TrySendError<Request<Body>>> {
        let response = self.sender.try_send_request(request).await?;
        Ok(response.map(|body| Counted { body, _held: self._held }))
    }
}

#[derive(Debug)]
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response's body, which gives its stream back when dropped.
#[derive(Debug)]
pub struct Counted {
    body: Incoming,
    _held: Held,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
