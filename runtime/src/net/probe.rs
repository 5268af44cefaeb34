//! Whether anybody is at a local address, found without disturbing them.

use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::identity::Route;

/// Where the route leads: a socket that is bound to the more specific address wins, as it does in the kernel.
pub(crate) fn choose(route: &Route, kind: SocketType) -> SocketAddr {
    match route.or {
        Some(or) if !is_taken(route.to, kind) => or,
        _ => route.to,
    }
}

/// Tries to take the address. With `SO_REUSEADDR` only a listening socket is in the way, not old connections; a
/// datagram socket is always in the way.
fn is_taken(address: SocketAddr, kind: SocketType) -> bool {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let Ok(socket) = socket_with(family, kind, SocketFlags::CLOEXEC, None) else { return false };
    if kind == SocketType::STREAM && sockopt::set_socket_reuseaddr(&socket, true).is_err() {
        return false;
    }
    bind(&socket, &address) == Err(Errno::ADDRINUSE)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn route(to: SocketAddr) -> Route {
        let or = SocketAddr::new("127.0.0.9".parse().unwrap(), to.port());
        Route { to, or: Some(or), from: None }
    }

    #[test]
    fn a_listener_is_found_and_not_disturbed() {
        let listener = TcpListener::bind("127.0.0.8:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(choose(&route(address), SocketType::STREAM), address);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "no connection was made");
    }

    #[test]
    fn without_a_listener_the_other_address_is_chosen_also_beside_old_connections() {
        let listener = TcpListener::bind("127.0.0.8:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        // The side that closes first keeps the port for a while.
        drop(listener.accept().unwrap());
        drop(client);
        drop(listener);
        let or = route(address).or.unwrap();
        assert_eq!(choose(&route(address), SocketType::STREAM), or);
    }

    #[test]
    fn a_datagram_socket_is_found() {
        let socket = UdpSocket::bind("127.0.0.8:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(choose(&route(address), SocketType::DGRAM), address);
        drop(socket);
        assert_ne!(choose(&route(address), SocketType::DGRAM), address);
    }
}
