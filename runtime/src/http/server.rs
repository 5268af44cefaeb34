//! The server's life: listen, serve, say farewell, drain.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::answer::answer;
use super::drain::Farewell;
use super::listen::Listeners;
use super::queue::Queue;
use super::watch::Watch;
use super::worker::{self, Guests};
use crate::fs::FileCalls;
use crate::guest::Surroundings;
use crate::guest::component::State;
use crate::{Exit, Host, Stop, World, engine};

/// Bytes of a request's head, and of an http/2 header list.
const LARGEST_HEAD: usize = 64 * 1024;
/// Time a client has to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Concurrent http/2 streams of one connection.
const STREAMS: u32 = 128;
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
    let (timeout, reuse) = (world.http.request_timeout, world.http.reuse);
    let instances = engine::room_for(proxy.instance_pre().component(), host.instances);
    let on_listen = world.on_listen.clone();
    let listeners = Listeners::bind(&world.network, world.http.port).await?;
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
    let connections = Connections {
        guests: Arc::clone(&guests),
        timeout,
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
            asked.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
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
    timeout: Duration,
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
        let (timeout, closing, draining) = (self.timeout, self.closing.clone(), self.draining.clone());
        async move {
            let goaway = draining.child_token();
            let going = goaway.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (guests, closing, going) = (Arc::clone(&guests), closing.clone(), going.clone());
                async move {
                    let version = request.version();
                    let mut response = answer(request, &guests.queue, &guests.watch, timeout).await;
                    if closing.is_cancelled() {
                        if version == Version::HTTP_2 {
                            going.cancel();
                        } else {
                            let close = HeaderValue::from_static("close");
                            response.headers_mut().insert(header::CONNECTION, close);
                        }
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let builder = protocols();
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            let result = tokio::select! {
                result = &mut connection => result,
                () = goaway.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(error, "connection");
            }
        }
    }
}

/// HTTP/1.1 with keep-alive, and h2c by prior knowledge.
fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(LARGEST_HEAD);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(LARGEST_HEAD as u32);
    builder
}

fn is_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
