//! Which sockets an http guest is served on.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};

use crate::Network;

/// All listening sockets of the guest.
#[derive(Debug)]
pub(super) struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// The pod's addresses and its loopback, or the wildcard address where the pod has a namespace of its own.
    pub(super) async fn bind(network: &Network, port: u16) -> io::Result<Self> {
        let addresses = network.pod_ips.iter().chain(&network.loopback);
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(bind((*address, port).into()).await?);
        }
        if listeners.is_empty() {
            let both = bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), port).into()).await;
            listeners.push(match both {
                Ok(listener) => listener,
                // No IPv6 on this machine.
                Err(_) => bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), port).into()).await?,
            });
        }
        Ok(Self(listeners))
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok())
    }

    /// The next connection on any of them.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|context| {
            for listener in &self.0 {
                if let Poll::Ready(accepted) = listener.poll_accept(context) {
                    return Poll::Ready(accepted.map(|(stream, _)| stream));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// With `SO_REUSEADDR`, as tokio sets it: a restarted container must not wait for its predecessor's connections.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))
}
