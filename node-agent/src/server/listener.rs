//! Accepts: TCP, TLS, HTTP. A stranger gets ten seconds to say something and costs one of a bounded number of places.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig as TlsConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::config::ServerConfig;
use crate::any_certificate::AnyCertificate;

/// For a TLS handshake, and for a request's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once.
const CONNECTIONS: usize = 1024;
/// For requests under way when the agent stops; log followers are cut then.
const DRAIN: Duration = Duration::from_secs(5);

/// Nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("listening on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No TLS.
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
}

/// The certificate that we show; swapped while we serve. Clones share it.
#[derive(Debug, Clone)]
pub struct Serving {
    key: Arc<RwLock<Arc<CertifiedKey>>>,
}

impl Serving {
    /// Begins with this one.
    pub fn new(key: CertifiedKey) -> Self {
        Self { key: Arc::new(RwLock::new(Arc::new(key))) }
    }

    /// New connections see this one.
    pub fn swap(&self, key: CertifiedKey) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// The one shown now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// The other end of a connection. Whether to believe its certificates is judged with each request.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// The leaf first. The peer has proved to hold the leaf's key, no more.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Where it comes from.
    pub address: Option<SocketAddr>,
}

/// A bound address with what is served there.
pub(super) struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
}

/// Plain HTTP for `/healthz`; nowhere if switched off.
pub(super) async fn plain(config: &ServerConfig, router: Router) -> Result<Option<Bound>, ListenError> {
    let Some(address) = config.healthz else {
        return Ok(None);
    };
    Ok(Some(Bound { listener: bind(address).await?, tls: None, router }))
}

/// HTTPS.
pub(super) async fn secure(config: &ServerConfig, serving: Serving, router: Router) -> Result<Bound, ListenError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // A wrong certificate is answered with 401, not with a broken connection, and does not stand in the way of a right
    // token. Belief is `access::authentication`'s.
    let ask = AnyCertificate::new(&provider);
    let mut tls = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(ask)
        .with_cert_resolver(Arc::new(serving));
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = bind(SocketAddr::new(config.address, config.port)).await?;
    Ok(Bound { listener, tls: Some(TlsAcceptor::from(Arc::new(tls))), router })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })
}

impl Bound {
    /// Until `shutdown`, and a little longer for what is under way.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let connections = TaskTracker::new();
        while let Some(accepted) = shutdown.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, address)) => {
                    let Ok(place) = places.clone().try_acquire_owned() else {
                        tracing::warn!(from = %address, "too many connections: one refused");
                        continue;
                    };
                    let (tls, router, shutdown) = (self.tls.clone(), self.router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        let _place = place;
                        connection(stream, address, tls, router, shutdown).await;
                    });
                }
                // Out of descriptors: wait for some to be closed, not for the machine to burn.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        connections.close();
        let _in_time = tokio::time::timeout(DRAIN, connections.wait()).await;
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: CancellationToken,
) {
    let _without = stream.set_nodelay(true);
    let peer = Peer { certificates: Arc::default(), address: Some(address) };
    let Some(tls) = tls else {
        return serve(stream, peer, router, shutdown).await;
    };
    match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificates = certificates.iter().cloned().map(CertificateDer::into_owned).collect();
            serve(stream, Peer { certificates, ..peer }, router, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(from = %address, %error, "TLS handshake"),
        Err(_elapsed) => tracing::debug!(from = %address, "TLS handshake: too slow"),
    }
}

async fn serve<T>(stream: T, peer: Peer, router: Router, shutdown: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = peer.address;
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(from = ?address, %error, "connection ended");
    }
}
