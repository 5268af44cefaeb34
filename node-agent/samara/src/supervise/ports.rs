//! `-p`: connections to a port of the host are passed on to the container's own address.
//!
//! A container on the private network has an address of its own in 127.0.0.0/8, which Samara's socket layer binds its
//! listeners to. So two containers may listen on one port, and nothing of the kernel has to be set up: no bridge, no
//! address translation. What it costs: the guest sees connections come from its own address.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use samara_agent::network::{self, Forward, Transport};

use crate::container::{Protocol, Publication};

/// The open ports. They close when this goes.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    ports: Vec<Publication>,
    _open: network::Forwarder,
}

/// From the container's id: addresses in 127.64.0.0/10.
pub(crate) fn address(id: &str) -> Ipv4Addr {
    let number = u32::from_str_radix(id.get(..8).unwrap_or_default(), 16).unwrap_or(1);
    // The lowest bits choose; network and broadcast look odd and are left out.
    let host = (number & 0x003f_ffff).clamp(1, 0x003f_fffe);
    Ipv4Addr::from_bits(0x7f40_0000 | host)
}

/// What 127.0.0.1 means to the container with this address: in 127.192.0.0/10.
pub(crate) fn loopback(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() | 0x0080_0000)
}

impl Forwarder {
    /// Listens on every port or on none.
    pub(crate) async fn open(address: Option<Ipv4Addr>, wanted: &[Publication]) -> Result<Self> {
        let Some(address) = address else { return Ok(Self::default()) };
        let forwards: Vec<Forward> = wanted.iter().map(|port| forward(port, address)).collect();
        let open = network::Forwarder::open(&forwards).await.map_err(|error| refused(error, &forwards))?;
        let found = wanted.iter().zip(open.listening());
        let ports = found.map(|(port, at)| Publication { host_port: at.port(), ..*port }).collect();
        Ok(Self { ports, _open: open })
    }

    /// With the ports that were found.
    pub(crate) fn ports(&self) -> &[Publication] {
        &self.ports
    }
}

fn forward(port: &Publication, address: Ipv4Addr) -> Forward {
    Forward {
        transport: match port.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        },
        listen: SocketAddr::new(port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port.host_port),
        to: SocketAddr::new(address.into(), port.guest_port),
    }
}

/// With what to do about it.
fn refused(error: network::ForwardError, wanted: &[Forward]) -> anyhow::Error {
    let guest = wanted.iter().find(|forward| forward.listen == error.listen).map_or(0, |forward| forward.to.port());
    let what = match error.listen.port() {
        0 => error.to_string(),
        taken => format!("{error}: is something else there? -p 0:{guest} takes a free port instead of {taken}"),
    };
    anyhow::Error::new(error.source).context(what)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::net::TcpListener;

    use super::*;

    fn local() -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    #[test]
    fn an_id_gives_two_addresses_of_this_machine() {
        for (id, own, local) in [
            ("00000000ff", "127.64.0.1", "127.192.0.1"),
            ("ffffffffff", "127.127.255.254", "127.255.255.254"),
            ("12345678aa", "127.116.86.120", "127.244.86.120"),
        ] {
            assert_eq!(address(id).to_string(), own);
            assert_eq!(loopback(address(id)).to_string(), local);
        }
    }

    #[tokio::test]
    async fn a_free_port_is_found_for_each_protocol() {
        let wanted = [Protocol::Tcp, Protocol::Udp].map(|protocol| Publication {
            host_ip: local(),
            host_port: 0,
            guest_port: 80,
            protocol,
        });
        let forwarder = Forwarder::open(Some("127.99.3.4".parse().unwrap()), &wanted).await.unwrap();
        let found: Vec<_> = forwarder.ports().iter().map(|port| (port.protocol, port.host_port != 0)).collect();
        assert_eq!(found, [(Protocol::Tcp, true), (Protocol::Udp, true)]);
    }

    #[tokio::test]
    async fn a_taken_port_is_said_to_be_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host_port = taken.local_addr().unwrap().port();
        let wanted = [Publication { host_ip: local(), host_port, guest_port: 80, protocol: Protocol::Tcp }];
        let error = Forwarder::open(Some(Ipv4Addr::LOCALHOST), &wanted).await.unwrap_err().to_string();
        assert!(error.contains("-p 0:80"), "{error}");
    }
}
