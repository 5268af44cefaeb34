//! Requests a guest sends: the same policy as its sockets, connections kept for the next request.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::dial::{Connector, DialError};
use super::trust::Trust;
use crate::net::{Identity, Resolver};

/// Requests under way at a time on one runtime.
const MOST: usize = 256;
/// Bytes of an answer's head.
const LARGEST_HEAD: usize = 256 * 1024;
/// Connections kept for one server, and how long.
const KEPT: usize = 16;
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Limits where the guest sets none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(600);

/// The way out of all instances on one runtime.
pub(crate) struct WayOut {
    connector: Connector,
    client: OnceLock<Client<Connector, WasiBody>>,
    room: Arc<Semaphore>,
}

/// One instance's handle on it.
#[derive(Debug, Clone)]
pub(crate) struct Outbound(Arc<WayOut>);

impl fmt::Debug for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WayOut").finish_non_exhaustive()
    }
}

impl Outbound {
    pub(crate) fn new(identity: Arc<Identity>, resolver: Arc<dyn Resolver>, trust: Arc<Trust>) -> Self {
        Self(Arc::new(WayOut {
            connector: Connector::new(identity, resolver, trust),
            client: OnceLock::new(),
            room: Arc::new(Semaphore::new(MOST)),
        }))
    }
}

impl WayOut {
    fn client(&self) -> &Client<Connector, WasiBody> {
        self.client.get_or_init(|| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEPT_FOR)
                .pool_max_idle_per_host(KEPT)
                .http1_max_buf_size(LARGEST_HEAD)
                .http2_max_header_list_size(LARGEST_HEAD as u32)
                .build(self.connector.clone())
        })
    }

    async fn send(&self, request: Request<WasiBody>, options: RequestOptions) -> Result<Response<WasiBody>, Error> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        let connect = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let first_byte = options.first_byte_timeout.unwrap_or(FIRST_BYTE_TIMEOUT);
        let pause = options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES_TIMEOUT);
        let sending = self.client().request(request);
        match tokio::time::timeout(connect.saturating_add(first_byte), sending).await {
            Ok(Ok(response)) => Ok(response.map(|body| Received::new(body, pause, room).boxed_unsync())),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_elapsed) => Err(Error::ConnectionReadTimeout),
        }
    }
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _finished: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let way = Arc::clone(&self.0);
        Box::new(async move {
            let response = way.send(request, options.unwrap_or_default()).await?;
            // The connection is the client's to drive.
            let driven: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, driven))
        })
    }
}

/// Body of an answer, with a limit on pauses.
struct Received {
    body: Incoming,
    pause: Duration,
    late: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl Received {
    fn new(body: Incoming, pause: Duration, room: OwnedSemaphorePermit) -> Self {
        Self { body, pause, late: Box::pin(sleep(pause)), _room: room }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let next = Instant::now() + self.pause;
            self.late.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)));
        }
        ready!(self.late.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// The guest's error for ours.
fn reason(error: &ClientError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.into();
        }
        if let Some(hyper) = error.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_closed())
        {
            return Error::ConnectionTerminated;
        }
        cause = error.source();
    }
    tracing::debug!(%error, "outgoing request");
    Error::HttpProtocolError
}
