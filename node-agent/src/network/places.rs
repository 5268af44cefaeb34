//! Where to listen for a guest that has an address of this machine's loopback.
//!
//! A socket on the wildcard address has the port on every address of the machine, the guest's own included, and the guest that
//! wants to listen on the same port would find it taken. So "everywhere" is every address that the machine is reached at,
//! one by one.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;

/// The addresses to listen at for `listen`, and whether there may be others later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Places {
    /// This one alone.
    Fixed(SocketAddr),
    /// All of the machine's of this family.
    Machine { like: IpAddr, port: u16 },
}

impl Places {
    /// `to` is whom it is for.
    pub(super) fn of(listen: SocketAddr, to: IpAddr) -> Self {
        match listen.ip().is_unspecified() && to.is_loopback() {
            true => Self::Machine { like: listen.ip(), port: listen.port() },
            false => Self::Fixed(listen),
        }
    }

    /// Now.
    pub(super) fn now(&self) -> io::Result<BTreeSet<SocketAddr>> {
        match self {
            Self::Fixed(at) => Ok(BTreeSet::from([*at])),
            Self::Machine { like, port } => {
                let ips = reached_at(interfaces()?, *like);
                Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect())
            }
        }
    }
}

fn interfaces() -> io::Result<Vec<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| interface.address);
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    Ok(addresses.filter_map(ip).collect())
}

/// Those of the family of `like` by which the machine is reached: its own loopback address, and what is no loopback's.
/// Link-local ones of IPv6 mean nothing without their interface.
fn reached_at(all: Vec<IpAddr>, like: IpAddr) -> BTreeSet<IpAddr> {
    let own: IpAddr = if like.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let outside = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let outside = all.into_iter().filter(|ip| ip.is_ipv4() == like.is_ipv4()).filter(outside);
    outside.chain([own]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_wherever_the_machine_is_reached_and_not_where_guests_are() {
        let all = ["127.0.0.1", "127.64.0.9", "10.0.0.7", "192.0.2.1", "::1", "fe80::1", "2001:db8::1"];
        let all = || all.iter().map(|ip| ip.parse().unwrap()).collect();
        let found = |like: &str| {
            let found = reached_at(all(), like.parse().unwrap()).into_iter();
            found.map(|ip| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("0.0.0.0"), ["10.0.0.7", "127.0.0.1", "192.0.2.1"]);
        assert_eq!(found("::"), ["::1", "2001:db8::1"]);
    }

    #[test]
    fn one_address_and_guests_of_another_network_are_taken_as_they_are() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (listen, to) in [("127.0.0.1:80", "127.64.0.9"), ("0.0.0.0:80", "10.1.0.7"), ("192.0.2.1:80", "127.64.0.9")]
        {
            assert_eq!(Places::of(at(listen), to.parse().unwrap()), Places::Fixed(at(listen)));
        }
        let everywhere = Places::of(at("0.0.0.0:80"), "127.64.0.9".parse().unwrap());
        assert!(everywhere.now().unwrap().contains(&at("127.0.0.1:80")));
    }
}
