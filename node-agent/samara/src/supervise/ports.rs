//! `-p`: connections to a port of the host are passed on to the container's own address.
//!
//! A container on the private network has an address of its own in 127.0.0.0/8, which Samara's socket layer binds its
//! listeners to. So two containers may listen on one port, and nothing of the kernel has to be set up: no bridge, no
//! address translation. What it costs: the guest sees connections come from its own address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::container::Publication;

/// The open ports. They close when this goes.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    ports: Vec<Publication>,
    _tasks: JoinSet<()>,
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
        let (mut ports, mut tasks) = (Vec::new(), JoinSet::new());
        for port in wanted {
            let at = SocketAddr::new(port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port.host_port);
            let listener = TcpListener::bind(at).await.with_context(|| match port.host_port {
                0 => format!("listen on {}", at.ip()),
                taken => format!(
                    "listen on {at}: is something else there? -p 0:{} takes a free port instead of {taken}",
                    port.guest_port
                ),
            })?;
            let host_port = listener.local_addr()?.port();
            ports.push(Publication { host_port, ..*port });
            tasks.spawn(serve(listener, SocketAddr::new(IpAddr::V4(address), port.guest_port)));
        }
        Ok(Self { ports, _tasks: tasks })
    }

    /// With the ports that were found.
    pub(crate) fn ports(&self) -> &[Publication] {
        &self.ports
    }
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(pass_on(stream, to))),
                // Out of files, most likely: those that end free some.
                Err(_) => drop(connections.join_next().await),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass_on(mut from: TcpStream, to: SocketAddr) -> io::Result<()> {
    // Of this machine's own addresses the socket layer lets a guest hear from its own only.
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(to.ip(), 0))?;
    // A guest that does not listen yet: the caller's connection is closed, as a refused one would be.
    let mut to = socket.connect(to).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    copy_bidirectional(&mut from, &mut to).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::container::Protocol;

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
    async fn a_connection_is_passed_on_and_a_free_port_is_found() {
        let guest = TcpListener::bind("127.99.3.4:0").await.unwrap();
        let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let guest_port = guest.local_addr().unwrap().port();
        let wanted = [Publication { host_ip: local, host_port: 0, guest_port, protocol: Protocol::Tcp }];
        let forwarder = Forwarder::open(Some("127.99.3.4".parse().unwrap()), &wanted).await.unwrap();
        let port = forwarder.ports()[0].host_port;
        assert_ne!(port, 0);
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let (mut server, _) = guest.accept().await.unwrap();
        let mut heard = [0; 4];
        server.read_exact(&mut heard).await.unwrap();
        server.write_all(b"pong").await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"pong");
    }

    #[tokio::test]
    async fn a_taken_port_is_said_to_be_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host_port = taken.local_addr().unwrap().port();
        let host_ip = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let wanted = [Publication { host_ip, host_port, guest_port: 80, protocol: Protocol::Tcp }];
        let error = Forwarder::open(Some(Ipv4Addr::LOCALHOST), &wanted).await.unwrap_err().to_string();
        assert!(error.contains("-p 0:80"), "{error}");
    }
}
