//! The server's life: listen, serve, say farewell, drain.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::answer::{AnswerBody, RequestLimits, answer};
use super::bell::Bell;
use super::drain::Farewell;
use super::idle::Streams;
use super::listen::Listeners;
use super::queue::Queue;
use super::request::BodyLimits;
use super::watch::Watch;
use super::wire::{Protocol, Wire};
use super::worker::{self, Guests};
use crate::fs::FileCalls;
use crate::guest::Surroundings;
use crate::guest::component::State;
use crate::{Exit, Host, Http, Stop, World, engine};

/// Bytes of a request's head, and of an http/2 header list.
const LARGEST_HEAD: usize = 64 * 1024;
/// Concurrent http/2 streams of one connection.
const STREAMS: u32 = 128;
/// Connections past the limit that are told so at a time; the others are closed without a word.
const REFUSALS: usize = 64;
/// Time such a client has to take notice.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Instances that a worker keeps for further requests, at most.
const KEPT: usize = 16;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is stopped, or until a guest ends the process.
pub(crate) fn serve(proxy: ProxyPre<State>, host: &Host, world: World, stop: &Stop) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::not_started(format!("make the event loop: {error}")),
    };
    let exit = runtime.block_on(run(proxy, host, world, stop));
    runtime.shutdown_background();
    exit.unwrap_or_else(|error| Exit::not_started(error.to_string()))
}

async fn run(proxy: ProxyPre<State>, host: &Host, world: World, stop: &Stop) -> io::Result<Exit> {
    let workers = usize::try_from(world.cpus.max(1)).unwrap_or(1);
    let Http { port, request_timeout: timeout, reuse, max_body, connections: most, client_timeout } = world.http;
    let instances = engine::room_for(proxy.instance_pre().component(), host.instances);
    let on_listen = world.on_listen.clone();
    let listeners = Listeners::bind(&world.network, port).await?;
    let (fatal, mut ends) = mpsc::unbounded_channel();
    let guests = Arc::new(Guests {
        proxy,
        engine: host.engine.clone(),
        surroundings: Surroundings::new(world, FileCalls::OnPool, stop)?,
        queue: Queue::default(),
        watch: Watch::new(workers),
        room: Arc::new(Semaphore::new(instances)),
        reuse,
        keep: KEPT.min(instances / (2 * workers)),
        fatal,
        afterwards: timeout,
    });
    for worker in 0..workers {
        worker::start(Arc::clone(&guests), worker)?;
    }
    let bell = Arc::new(Bell::default());
    let listener = Arc::clone(&bell);
    tokio::spawn(async move { listener.listen().await });
    let connections = Connections {
        guests: Arc::clone(&guests),
        bell,
        limits: RequestLimits { body: BodyLimits { most: max_body, patience: client_timeout }, timeout },
        most: most.max(1),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
        closing: CancellationToken::new(),
        draining: CancellationToken::new(),
        open: TaskTracker::new(),
    };
    let mut asked = stop.listen();
    if let Some(on_listen) = on_listen {
        listeners.addresses().for_each(|address| on_listen.tell(address));
    }
    let exit = tokio::select! {
        () = connections.serve(listeners, async {
            // The other end lives as long as `stop`.
            let asked = asked.wait_for(Option::is_some).await.ok().and_then(|asked| *asked);
            asked.map_or(Duration::ZERO, |asked| asked.grace)
        }) => Exit::default(),
        Some(exit) = ends.recv() => exit,
        requests = guests.watch.all_stuck(timeout) => stuck(&guests, &requests, timeout),
    };
    guests.queue.close();
    Ok(exit)
}

/// Nobody can be answered any more: the process ends as if it had trapped, and is restarted by whoever runs it.
fn stuck(guests: &Guests, requests: &str, timeout: Duration) -> Exit {
    let message = format!("every worker computed for more than {} s: {requests}", timeout.as_secs_f32());
    if let Err(error) = guests.surroundings.stderr.write(format!("{message}\n").as_bytes()) {
        tracing::debug!(%error, "report a stuck guest on its stderr");
    }
    Exit::trap(message)
}

struct Connections {
    guests: Arc<Guests>,
    bell: Arc<Bell>,
    limits: RequestLimits,
    /// Connections at a time.
    most: usize,
    /// Connections that are being told that they are one too many.
    refusals: Arc<Semaphore>,
    /// Answers say `Connection: close`.
    closing: CancellationToken,
    /// Idle connections are closed, busy ones after their answer.
    draining: CancellationToken,
    open: TaskTracker,
}

impl Connections {
    /// Returns when it was asked to stop and the last connection is closed.
    async fn serve(&self, listeners: Listeners, asked: impl Future<Output = Duration>) {
        let mut asked = std::pin::pin!(asked);
        let grace = loop {
            tokio::select! {
                grace = &mut asked => break grace,
                accepted = listeners.accept() => self.accepted(accepted).await,
            }
        };
        self.closing.cancel();
        let mut farewell = Farewell::begin(Instant::now(), grace);
        loop {
            tokio::select! {
                // Whoever is in the backlog came in time.
                biased;
                accepted = listeners.accept() => {
                    self.accepted(accepted).await;
                    farewell.came(Instant::now());
                }
                () = tokio::time::sleep_until(farewell.close_at()) => break,
            }
            if Instant::now() >= farewell.close_at() {
                break;
            }
        }
        drop(listeners);
        self.draining.cancel();
        self.open.close();
        self.open.wait().await;
    }

    async fn accepted(&self, accepted: io::Result<TcpStream>) {
        match accepted {
            Ok(stream) if self.open.len() >= self.most => {
                if let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() {
                    self.open.spawn(refuse(stream, place));
                }
            }
            Ok(stream) => {
                self.open.spawn(self.connection(stream));
            }
            Err(error) if is_clients_fault(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn connection(&self, stream: TcpStream) -> impl Future<Output = ()> + use<> {
        let _ = stream.set_nodelay(true);
        let guests = Arc::clone(&self.guests);
        let (bell, limits) = (Arc::clone(&self.bell), self.limits);
        let (closing, draining) = (self.closing.clone(), self.draining.clone());
        async move {
            let opened = tokio::select! {
                opened = Wire::open(stream, limits.body.patience) => opened,
                () = draining.cancelled() => return,
            };
            let result = match opened {
                Ok(None) => return,
                Ok(Some((protocol, wire))) => {
                    let serving = Serving { guests, bell, limits, closing, goaway: draining.child_token() };
                    match protocol {
                        Protocol::Http1 => serving.http1(wire).await,
                        Protocol::Http2 => serving.http2(wire).await,
                    }
                    .map_err(io::Error::other)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                tracing::debug!(%error, "connection");
            }
        }
    }
}

/// What one connection is served with.
struct Serving {
    guests: Arc<Guests>,
    bell: Arc<Bell>,
    limits: RequestLimits,
    closing: CancellationToken,
    /// No further request of this connection is taken.
    goaway: CancellationToken,
}

impl Serving {
    /// HTTP/1.1 with keep-alive.
    async fn http1(self, wire: Wire) -> hyper::Result<()> {
        let goaway = self.goaway.clone();
        let mut builder = http1::Builder::new();
        // The time limit is also that of a connection without requests.
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.body.patience).max_buf_size(LARGEST_HEAD);
        let mut connection = pin!(builder.serve_connection(wire, service_fn(|request| self.answer(request))));
        tokio::select! {
            result = &mut connection => result,
            () = goaway.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }

    /// HTTP/2 by prior knowledge.
    async fn http2(self, wire: Wire) -> hyper::Result<()> {
        let goaway = self.goaway.clone();
        let patience = self.limits.body.patience;
        let serving = Arc::new(self);
        let streams = Streams::none();
        let open = streams.clone();
        let service = service_fn(move |request| {
            let (serving, stream) = (Arc::clone(&serving), open.begin());
            async move { Ok::<_, Infallible>(serving.answer(request).await?.map(|body| stream.until_sent(body))) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(LARGEST_HEAD as u32)
            .keep_alive_interval(patience)
            .keep_alive_timeout(patience);
        let mut connection = pin!(builder.serve_connection(wire, service));
        tokio::select! {
            result = &mut connection => return result,
            () = goaway.cancelled() => {}
            () = streams.still_for(patience) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A client that asked before it heard is answered; one that takes nothing is not waited for.
        tokio::select! {
            result = &mut connection => result,
            () = async {
                tokio::time::sleep(patience).await;
                streams.still_for(patience).await;
            } => Ok(()),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        let version = request.version();
        let mut response = answer(request, &self.guests.queue, &self.guests.watch, &self.bell, self.limits).await;
        if self.closing.is_cancelled() {
            if version == Version::HTTP_2 {
                self.goaway.cancel();
            } else {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Ok(response)
    }
}

/// Tells a client in http/1, whatever it speaks, that it is one too many.
async fn refuse(mut stream: TcpStream, _place: OwnedSemaphorePermit) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\n\r\ntoo many connections";
    let told = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        // Closing with the request unread would take the answer back.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    if let Err(error) = tokio::time::timeout(REFUSAL_TIMEOUT, told).await {
        tracing::debug!(%error, "refuse a connection");
    }
}

fn is_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
