//! The way to the API server: as few HTTP/2 connections as the streams need, opened when needed, under the newest identity.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use kube::client::Body;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::link::{Counted, Link, Stream};

/// To connect, TLS included. A machine that is away does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Between two attempts that failed, doubled each time: however many requests there are, no more is asked of the server.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// To answer with a response's head. A watch answers at once, its events come later.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a request that did not leave is given to a fresh connection.
const UNSENT_RETRIES: u32 = 3;

/// Why a request had no response.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Not an https URL with a host.
    #[error("{uri} is not an https URL with a host")]
    Address {
        /// What was given.
        uri: Uri,
    },
    /// No TCP connection.
    #[error("connecting to {host}:{port}")]
    Connect {
        /// The API server's host.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// No TLS session, or none with HTTP/2.
    #[error("TLS with {host}:{port}")]
    Tls {
        /// The API server's host.
        host: String,
        /// Its port.
        port: u16,
        /// Why: a wrong certificate, or a proxy that does not speak HTTP/2.
        source: io::Error,
    },
    /// It took too long.
    #[error("{operation} {host}:{port}: no answer within {} s", after.as_secs())]
    Timeout {
        /// What was waited for.
        operation: &'static str,
        /// The API server's host.
        host: String,
        /// Its port.
        port: u16,
        /// How long.
        after: Duration,
    },
    /// The connection broke.
    #[error("speaking HTTP/2")]
    Http(#[from] hyper::Error),
    /// The agent is stopping.
    #[error("stopping")]
    Stopped,
    /// The one attempt of all who wait for a connection failed.
    #[error(transparent)]
    Dial(Arc<TransportError>),
}

/// Connections to one API server; clones share them.
#[derive(Debug, Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    state: Mutex<State>,
}

/// An attempt to connect, awaited by any number of requests: all of them have its outcome as soon as it is there.
type Attempt = futures::future::Shared<BoxFuture<'static, Result<(), Arc<TransportError>>>>;

#[derive(Debug)]
struct State {
    tls: Arc<ClientConfig>,
    /// Counts identities.
    generation: u64,
    links: Vec<Link>,
    attempt: Option<Attempt>,
    /// Since the last success.
    failures: u32,
    not_before: Instant,
}

impl Transport {
    /// Opens nothing yet. `server_name` is what the server's certificate must be for, if not the URL's host.
    pub fn new(server: &Uri, server_name: Option<&str>, tls: ClientConfig) -> Result<Self, TransportError> {
        let address = || TransportError::Address { uri: server.clone() };
        if server.scheme_str() != Some("https") {
            return Err(address());
        }
        let host = server.host().ok_or_else(address)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name =
            ServerName::try_from(server_name.unwrap_or(&host).to_owned()).map_err(|_invalid| address())?;
        let state = State {
            tls: only_http2(tls),
            generation: 0,
            links: Vec::new(),
            attempt: None,
            failures: 0,
            not_before: Instant::now(),
        };
        let port = server.port_u16().unwrap_or(443);
        Ok(Self { shared: Arc::new(Shared { host, port, server_name, state: Mutex::new(state) }) })
    }

    /// From now on requests go over connections opened with `tls`. Those under way end where they are.
    pub fn swap(&self, tls: ClientConfig) {
        self.shared.with(|state| {
            state.tls = only_http2(tls);
            state.generation += 1;
            state.links.clear();
        });
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Counted>, TransportError> {
        let mut retries = 0..UNSENT_RETRIES;
        loop {
            let stream = self.shared.stream().await?;
            match self.shared.within(RESPONSE_TIMEOUT, "waiting for an answer of", stream.send(request)).await? {
                Ok(response) => return Ok(response),
                Err(mut failed) => match (failed.take_message(), retries.next()) {
                    // The connection ended before it left: it cannot have had an effect.
                    (Some(unsent), Some(_)) => request = unsent,
                    (Some(_), None) | (None, _) => return Err(failed.into_error().into()),
                },
            }
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A stream of an open connection, if one is free.
    fn free(&self) -> Option<Stream> {
        self.with(|state| {
            state.links.retain(|link| !link.is_closed());
            state.links.iter().find_map(Link::stream)
        })
    }

    async fn stream(self: &Arc<Self>) -> Result<Stream, TransportError> {
        loop {
            if let Some(stream) = self.free() {
                return Ok(stream);
            }
            self.attempt().await.map_err(TransportError::Dial)?;
        }
    }

    /// The attempt under way, else a new one. It goes on when those who wait for it leave.
    fn attempt(self: &Arc<Self>) -> Attempt {
        self.with(|state| {
            let under_way = state.attempt.as_ref().filter(|attempt| attempt.peek().is_none());
            if let Some(attempt) = under_way {
                return attempt.clone();
            }
            let (shared, not_before) = (self.clone(), state.not_before);
            let dialling = tokio::spawn(async move {
                tokio::time::sleep_until(not_before).await;
                let dialled = shared.within(CONNECT_TIMEOUT, "connecting to", shared.dial()).await.flatten();
                shared.dialled(dialled)
            });
            let stopped = || Err(Arc::new(TransportError::Stopped));
            let attempt = async move { dialling.await.unwrap_or_else(|_| stopped()) }.boxed().shared();
            state.attempt = Some(attempt.clone());
            attempt
        })
    }

    fn dialled(&self, dialled: Result<Link, TransportError>) -> Result<(), Arc<TransportError>> {
        self.with(|state| match dialled {
            Ok(link) => {
                (state.failures, state.not_before) = (0, Instant::now());
                if link.generation == state.generation {
                    state.links.push(link);
                }
                Ok(())
            }
            Err(error) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(10)).min(LAST_PAUSE);
                state.failures += 1;
                state.not_before = Instant::now() + pause;
                Err(Arc::new(error))
            }
        })
    }

    async fn dial(&self) -> Result<Link, TransportError> {
        let (tls, generation) = self.with(|state| (state.tls.clone(), state.generation));
        let (host, port) = (self.host.clone(), self.port);
        let tcp = async {
            let tcp = TcpStream::connect((host.as_str(), port)).await?;
            tcp.set_nodelay(true)?;
            io::Result::Ok(tcp)
        };
        let tcp = tcp.await.map_err(|source| TransportError::Connect { host: host.clone(), port, source })?;
        let tls = TlsConnector::from(tls)
            .connect(self.server_name.clone(), tcp)
            .await
            .map_err(|source| TransportError::Tls { host, port, source })?;
        Ok(Link::open(tls, generation).await?)
    }

    async fn within<T>(
        &self,
        after: Duration,
        operation: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, TransportError> {
        tokio::time::timeout(after, work).await.map_err(|_elapsed| TransportError::Timeout {
            operation,
            host: self.host.clone(),
            port: self.port,
            after,
        })
    }
}

fn only_http2(mut tls: ClientConfig) -> Arc<ClientConfig> {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(tls)
}

impl tower::Service<Request<Body>> for Transport {
    type Response = Response<Counted>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let transport = self.clone();
        let method = request.method().clone();
        Box::pin(async move {
            let answered = transport.send(request).await;
            let code = answered.as_ref().ok().map(Response::status);
            let host = format!("{}:{}", transport.shared.host, transport.shared.port);
            crate::metrics::agent().operations.requested(code, &method, &host);
            Ok(answered?)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn to(port: u16) -> Transport {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Transport::new(&format!("https://127.0.0.1:{port}").parse().expect("a URL"), None, tls).expect("a transport")
    }

    async fn ask(transport: &Transport) -> TransportError {
        transport.send(Request::new(Body::empty())).await.expect_err("nobody speaks TLS there")
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_a_server_that_is_silent_learn_so_at_once_and_from_one_attempt() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let transport = to(listener.local_addr().expect("bound").port());
        let begun = Instant::now();
        let all = futures::future::join_all((0..50).map(|_| ask(&transport))).await;
        assert_eq!(begun.elapsed().as_secs(), CONNECT_TIMEOUT.as_secs(), "not one after the other");
        for error in &all {
            assert!(error.to_string().contains("no answer within 4 s"), "{error}");
        }
        listener.accept().await.expect("one attempt");
        let another = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        assert!(another.is_err(), "there was a second attempt");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_gone_is_asked_less_and_less_often_and_at_least_every_second() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let transport = to(listener.local_addr().expect("bound").port());
        drop(listener);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let begun = Instant::now();
            let error = ask(&transport).await;
            assert!(error.to_string().starts_with("connecting to 127.0.0.1:"), "{error}");
            waits.push(begun.elapsed().as_millis());
        }
        // Tokio's clock counts in whole milliseconds.
        let rounded: Vec<u128> = waits.iter().map(|wait| wait / 10 * 10).collect();
        assert_eq!(rounded, [0, 50, 100, 200, 400, 800, 1000, 1000]);
    }
}
