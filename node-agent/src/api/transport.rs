//! The way to the API server: as few HTTP/2 connections as the streams need, opened when needed, under the newest identity.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use kube::client::Body;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::link::{Counted, Link, Stream};

/// To connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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
    /// Held while dialling, so that a burst of requests opens one connection.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    tls: Arc<ClientConfig>,
    /// Counts identities.
    generation: u64,
    links: Vec<Link>,
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
        let state = State { tls: only_http2(tls), generation: 0, links: Vec::new() };
        let port = server.port_u16().unwrap_or(443);
        Ok(Self {
            shared: Arc::new(Shared {
                host,
                port,
                server_name,
                state: Mutex::new(state),
                dialling: tokio::sync::Mutex::default(),
            }),
        })
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

    async fn stream(&self) -> Result<Stream, TransportError> {
        loop {
            if let Some(stream) = self.free() {
                return Ok(stream);
            }
            let _dialling = self.dialling.lock().await;
            if let Some(stream) = self.free() {
                return Ok(stream);
            }
            let link = self.within(CONNECT_TIMEOUT, "connecting to", self.dial()).await??;
            self.with(|state| {
                if link.generation == state.generation {
                    state.links.push(link);
                }
            });
        }
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
        Box::pin(async move { Ok(transport.send(request).await?) })
    }
}
