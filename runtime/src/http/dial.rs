//! Connections for outgoing requests: looked up, routed and bound as the guest's own sockets would be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::trust::Trust;
use crate::net::{Identity, LookUpError, Resolver, find};

/// One attempt at one address.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("look up the name")]
    LookUp(#[source] LookUpError),
    #[error("connect")]
    Connect(#[source] io::Error),
    #[error("connect: no answer in time")]
    Timeout,
    #[error("the address may not be connected to")]
    Refused,
    #[error("no usable certificate authorities: {0}")]
    Trust(String),
    #[error("agree on TLS")]
    Tls(#[source] io::Error),
    #[error("not a name that can be asked: {0:?}")]
    Name(String),
}

impl From<&DialError> for Error {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::LookUp(LookUpError::NoSuchName) => {
                Self::DnsError { rcode: Some("NXDOMAIN".into()), info_code: None }
            }
            DialError::LookUp(LookUpError::Temporary) => Self::DnsTimeout,
            DialError::LookUp(LookUpError::Permanent) => {
                Self::DnsError { rcode: Some("SERVFAIL".into()), info_code: None }
            }
            DialError::Connect(error) => refused_by(error.kind()),
            DialError::Timeout => Self::ConnectionTimeout,
            DialError::Refused => Self::DestinationIpProhibited,
            DialError::Trust(text) => Self::InternalError(Some(text.clone())),
            DialError::Tls(error) => match tls_error(error) {
                Some(rustls::Error::InvalidCertificate(_)) => Self::TlsCertificateError,
                Some(_) | None => Self::TlsProtocolError,
            },
            DialError::Name(_) => Self::HttpRequestUriInvalid,
        }
    }
}

fn refused_by(kind: io::ErrorKind) -> Error {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    if kind == ConnectionRefused {
        Error::ConnectionRefused
    } else if kind == TimedOut {
        Error::ConnectionTimeout
    } else if matches!(kind, HostUnreachable | NetworkUnreachable) {
        Error::DestinationIpUnroutable
    } else {
        Error::ConnectionTerminated
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Makes connections; the client's pool keeps them.
#[derive(Clone)]
pub(super) struct Connector {
    identity: Arc<Identity>,
    resolver: Arc<dyn Resolver>,
    trust: Arc<Trust>,
}

impl Connector {
    pub(super) fn new(identity: Arc<Identity>, resolver: Arc<dyn Resolver>, trust: Arc<Trust>) -> Self {
        Self { identity, resolver, trust }
    }

    async fn connect(self, uri: Uri) -> Result<Stream, DialError> {
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().ok_or_else(|| DialError::Name(uri.to_string()))?.to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = self.dial(&host, port).await?;
        if !tls {
            return Ok(Stream { io: Box::new(TokioIo::new(stream)), http2: false });
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| DialError::Name(host))?;
        let config = self.trust.config().map_err(DialError::Trust)?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(DialError::Tls)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Stream { io: Box::new(TokioIo::new(stream)), http2 })
    }

    /// The addresses of the name, one after the other.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let found = find(Arc::clone(&self.resolver), Arc::clone(&self.identity), host.to_owned());
        let addresses = found.await.map_err(DialError::LookUp)?;
        let mut last = DialError::LookUp(LookUpError::NoSuchName);
        for address in addresses {
            let Ok(route) = self.identity.route(SocketAddr::new(address, port)) else {
                last = DialError::Refused;
                continue;
            };
            for to in [Some(route.to), route.or].into_iter().flatten() {
                match tokio::time::timeout(ATTEMPT, connect(to, route.from)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => last = DialError::Connect(error),
                    Err(_elapsed) => last = DialError::Timeout,
                }
            }
        }
        Err(last)
    }
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Stream, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection, plain or TLS.
pub(super) struct Stream {
    io: Box<dyn Io>,
    http2: bool,
}

trait Io: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Io for T {}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}
