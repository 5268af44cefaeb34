//! What the addresses that a guest names, and is told, mean for one of its sockets: the same for TCP and UDP.
//!
//! A pod with IPv4 addresses alone serves IPv4 also where its program says `[::]`, as in a Linux container: its IPv6 sockets are
//! in truth IPv4 ones. `::` stands for 0.0.0.0, `::1` for 127.0.0.1, and everybody else is seen as `::ffff:a.b.c.d`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::SocketType;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};

use super::identity::{Route, localhost, unspecified};
use super::{Net, probe};

/// What is known of a socket, or of a stream of its datagrams, beside what the kernel knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Nature {
    /// The guest bound it to the wildcard address.
    wildcard: bool,
    /// The guest takes it for an IPv6 socket.
    stands_for_v6: bool,
}

/// Why an address is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Of the other family than the socket.
    Family,
    /// IPv6, and the pod has no such address.
    Unreachable,
    /// The pod may not have it, or there is nobody at it.
    Refused,
}

impl Unfit {
    pub(super) fn to_bind(self) -> ErrorCode {
        match self {
            Self::Family => ErrorCode::InvalidArgument,
            Self::Unreachable | Self::Refused => ErrorCode::AddressNotBindable,
        }
    }

    pub(super) fn to_connect(self) -> ErrorCode {
        match self {
            Self::Family => ErrorCode::InvalidArgument,
            Self::Unreachable => ErrorCode::RemoteUnreachable,
            Self::Refused => ErrorCode::ConnectionRefused,
        }
    }

    pub(super) fn to_send(self) -> ErrorCode {
        match self {
            Self::Family => ErrorCode::InvalidArgument,
            Self::Unreachable | Self::Refused => ErrorCode::RemoteUnreachable,
        }
    }
}

impl Net {
    /// Of which family a socket is in truth, and what it is.
    pub(super) fn family(&self, asked: IpAddressFamily) -> (IpAddressFamily, Nature) {
        let stands_for_v6 = asked == IpAddressFamily::Ipv6 && self.identity.is_v4_only();
        let family = if stands_for_v6 { IpAddressFamily::Ipv4 } else { asked };
        (family, Nature { stands_for_v6, wildcard: false })
    }

    /// Of which family the guest takes a socket to be.
    pub(super) fn seen_family(&self, handle: u32, family: IpAddressFamily) -> IpAddressFamily {
        if self.nature(handle).stands_for_v6 { IpAddressFamily::Ipv6 } else { family }
    }

    pub(super) fn nature(&self, handle: u32) -> Nature {
        self.natures.get(&handle).copied().unwrap_or_default()
    }

    /// To be called for whatever may later be asked about: its number may have been another's.
    pub(super) fn remember(&mut self, handle: u32, nature: Nature) {
        match nature == Nature::default() {
            true => self.natures.remove(&handle),
            false => self.natures.insert(handle, nature),
        };
    }

    /// What an accepted connection, or a stream of datagrams, has of its socket.
    pub(super) fn inherit(&mut self, handle: u32, from: u32) {
        let nature = Nature { wildcard: false, ..self.nature(from) };
        self.remember(handle, nature);
    }

    /// What `bind` is given.
    pub(super) fn bind(&self, handle: u32, asked: SocketAddr) -> Result<SocketAddr, Unfit> {
        self.identity.bind(self.meant(handle, asked)?).map_err(|_| Unfit::Refused)
    }

    /// `bind` was done.
    pub(super) fn bound(&mut self, handle: u32, asked: SocketAddr) {
        if asked.ip().is_unspecified() && !self.identity.is_plain() {
            let nature = Nature { wildcard: true, ..self.nature(handle) };
            self.remember(handle, nature);
        }
    }

    /// Where a connection goes.
    pub(super) fn route(&self, handle: u32, asked: SocketAddr) -> Result<Route, Unfit> {
        self.identity.route(self.meant(handle, asked)?).map_err(|_| Unfit::Refused)
    }

    /// Where a datagram goes. Remembers what was redirected, so that answers come from where they are awaited.
    pub(super) fn send_to(&mut self, handle: u32, asked: SocketAddr) -> Result<SocketAddr, Unfit> {
        let route = self.route(handle, asked)?;
        let to = probe::choose(&route, SocketType::DGRAM);
        if Some(to) == route.or {
            self.redirected.insert(to.port());
        }
        Ok(to)
    }

    /// What the guest is told of a socket's own end.
    pub(super) fn seen_local(&self, handle: u32, local: SocketAddr, remote: Option<SocketAddr>) -> SocketAddr {
        let seen = match remote {
            Some(remote) => self.identity.seen_ends(local, remote).0,
            None if self.nature(handle).wildcard => unspecified(local),
            None => self.identity.seen(local),
        };
        self.told(handle, seen)
    }

    /// What the guest is told of a connection's other end.
    pub(super) fn seen_remote(&self, handle: u32, local: Option<SocketAddr>, remote: SocketAddr) -> SocketAddr {
        let seen = local.map_or(remote, |local| self.identity.seen_ends(local, remote).1);
        self.told(handle, seen)
    }

    /// Whom the guest takes a datagram to be from.
    pub(super) fn seen_sender(&self, handle: u32, sender: SocketAddr) -> SocketAddr {
        let is_redirected = self.identity.is_own(sender) && self.redirected.contains(&sender.port());
        let seen = match is_redirected {
            true => SocketAddr::new(localhost(sender), sender.port()),
            false => self.identity.seen(sender),
        };
        self.told(handle, seen)
    }

    /// The address that the guest's one stands for.
    fn meant(&self, handle: u32, asked: SocketAddr) -> Result<SocketAddr, Unfit> {
        if self.nature(handle).stands_for_v6 { in_v4(asked) } else { Ok(asked) }
    }

    /// The address by which the guest knows it.
    fn told(&self, handle: u32, address: SocketAddr) -> SocketAddr {
        if self.nature(handle).stands_for_v6 { in_v6(address) } else { address }
    }
}

fn in_v4(asked: SocketAddr) -> Result<SocketAddr, Unfit> {
    let ip = match asked.ip() {
        IpAddr::V4(_) => return Err(Unfit::Family),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().ok_or(Unfit::Unreachable)?,
    };
    Ok(SocketAddr::new(ip.into(), asked.port()))
}

fn in_v6(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv6Addr::UNSPECIFIED,
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Ipv6Addr::LOCALHOST,
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::net::{Identity, hickory};
    use crate::{Dns, Network};

    fn net(pod_ips: &[&str]) -> Net {
        let network = Network {
            pod_ips: pod_ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            loopback: Some("127.1.0.5".parse().unwrap()),
            ..Network::default()
        };
        let identity = Arc::new(Identity::new(&network));
        Net::new(Arc::clone(&identity), hickory(&Dns::default(), identity), None)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A pod with IPv4 alone, and a socket of it that the guest takes for an IPv6 one.
    fn standing() -> Net {
        let mut net = net(&["10.1.0.5"]);
        let (family, nature) = net.family(IpAddressFamily::Ipv6);
        assert_eq!(family, IpAddressFamily::Ipv4);
        net.remember(7, nature);
        net
    }

    #[test]
    fn only_a_pod_without_ipv6_has_v4_sockets_that_stand_for_v6_ones() {
        for (ips, asked, real) in [
            (&["10.1.0.5"][..], IpAddressFamily::Ipv6, IpAddressFamily::Ipv4),
            (&["10.1.0.5"], IpAddressFamily::Ipv4, IpAddressFamily::Ipv4),
            (&["10.1.0.5", "fd00::5"], IpAddressFamily::Ipv6, IpAddressFamily::Ipv6),
            (&["fd00::5"], IpAddressFamily::Ipv6, IpAddressFamily::Ipv6),
            (&[], IpAddressFamily::Ipv6, IpAddressFamily::Ipv6),
        ] {
            assert_eq!(net(ips).family(asked).0, real, "{ips:?} {asked:?}");
        }
        assert_eq!(standing().seen_family(7, IpAddressFamily::Ipv4), IpAddressFamily::Ipv6);
        assert_eq!(standing().seen_family(8, IpAddressFamily::Ipv4), IpAddressFamily::Ipv4);
    }

    #[test]
    fn a_socket_that_stands_for_a_v6_one_takes_and_tells_v6_addresses() {
        let mut net = standing();
        for (asked, bound) in [
            ("[::]:80", Ok("10.1.0.5:80")),
            ("[::1]:80", Ok("127.1.0.5:80")),
            ("[::ffff:10.1.0.5]:80", Ok("10.1.0.5:80")),
            ("[::ffff:10.1.0.6]:80", Err(Unfit::Refused)),
            ("[fd00::5]:80", Err(Unfit::Unreachable)),
            ("0.0.0.0:80", Err(Unfit::Family)),
        ] {
            assert_eq!(net.bind(7, at(asked)), bound.map(at), "{asked}");
        }
        let (ours, peer) = (at("10.1.0.5:80"), at("10.1.0.9:5000"));
        assert_eq!(net.seen_local(7, ours, None), at("[::ffff:10.1.0.5]:80"));
        net.bound(7, at("[::]:80"));
        assert_eq!(net.seen_local(7, ours, None), at("[::]:80"));
        net.inherit(9, 7);
        assert_eq!(net.seen_local(9, ours, Some(peer)), at("[::ffff:10.1.0.5]:80"));
        assert_eq!(net.seen_remote(9, Some(ours), peer), at("[::ffff:10.1.0.9]:5000"));
        let from_home = at("127.1.0.5:5000");
        assert_eq!(net.seen_remote(9, Some(ours), from_home), at("[::1]:5000"));
        assert_eq!(net.seen_sender(9, peer), at("[::ffff:10.1.0.9]:5000"));
    }

    #[test]
    fn a_number_that_is_given_again_says_nothing_of_the_socket_before() {
        let mut net = standing();
        net.bound(7, at("[::]:80"));
        let (_, nature) = net.family(IpAddressFamily::Ipv4);
        net.remember(7, nature);
        assert_eq!(net.seen_local(7, at("10.1.0.5:80"), None), at("10.1.0.5:80"));
        assert_eq!(net.bind(7, at("0.0.0.0:80")), Ok(at("10.1.0.5:80")));
    }

    #[test]
    fn ipv6_is_out_of_reach_and_localhost_is_not() {
        let net = standing();
        assert_eq!(net.route(7, at("[2001:db8::1]:80")), Err(Unfit::Unreachable));
        assert_eq!(net.route(7, at("[::1]:80")).unwrap().to, at("127.1.0.5:80"));
        assert_eq!(net.route(7, at("[::ffff:192.0.2.1]:80")).unwrap().to, at("192.0.2.1:80"));
        assert_eq!(net.route(7, at("[::ffff:127.1.0.6]:80")), Err(Unfit::Refused));
    }
}
