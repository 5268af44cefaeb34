//! Decides what an address that a guest names means for its pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Network;

/// The pod's own addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pod_ips: Vec<IpAddr>,
    loopback: Option<IpAddr>,
}

/// The guest may not have this address, or there is nobody at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// Where a connection or datagram goes, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: SocketAddr,
    /// Where to go if nobody listens at `to`: a server on the wildcard address is found there.
    pub(crate) or: Option<SocketAddr>,
    /// What an unbound socket is bound to first; `None` leaves it to the kernel.
    pub(crate) from: Option<IpAddr>,
}

impl Identity {
    pub(crate) fn new(network: &Network) -> Self {
        Self { pod_ips: network.pod_ips.clone(), loopback: network.loopback }
    }

    /// Whether nothing is rewritten.
    pub(crate) fn is_plain(&self) -> bool {
        self.pod_ips.is_empty()
    }

    /// Whether the pod has an address of the family.
    pub(crate) fn has_family_of(&self, address: IpAddr) -> bool {
        self.is_plain() || self.primary(address).is_some()
    }

    /// Whether the pod has IPv4 addresses and no other.
    pub(crate) fn is_v4_only(&self) -> bool {
        !self.is_plain() && self.pod_ips.iter().all(IpAddr::is_ipv4)
    }

    /// The pod's first address of the same family.
    fn primary(&self, like: IpAddr) -> Option<IpAddr> {
        self.pod_ips.iter().copied().find(|ip| ip.is_ipv4() == like.is_ipv4())
    }

    /// The pod's loopback address of the same family.
    fn own_loopback(&self, like: IpAddr) -> Option<IpAddr> {
        self.loopback.filter(|ip| ip.is_ipv4() == like.is_ipv4())
    }

    /// What `bind` is given.
    pub(crate) fn bind(&self, address: SocketAddr) -> Result<SocketAddr, Refused> {
        if self.is_plain() {
            return Ok(address);
        }
        let ip = address.ip();
        if self.is_any_outgoing(address) {
            return Ok(address);
        }
        let ip = if ip.is_unspecified() {
            self.primary(ip)
        } else if is_localhost(ip) {
            self.own_loopback(ip)
        } else {
            (self.pod_ips.contains(&ip) || self.loopback == Some(ip)).then_some(ip)
        };
        ip.map(|ip| SocketAddr::new(ip, address.port())).ok_or(Refused)
    }

    /// Where a connection to `address` goes. An IPv4 address in IPv6 clothes (`::ffff:127.0.0.1`) is the IPv4 address it
    /// is: the kernel would send from any address of the namespace to it.
    pub(crate) fn route(&self, address: SocketAddr) -> Result<Route, Refused> {
        if self.is_plain() {
            return Ok(Route { to: address, or: None, from: None });
        }
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let address = SocketAddr::new(ip, port);
        let primary = self.primary(ip).map(|ip| SocketAddr::new(ip, port));
        if is_localhost(ip) || ip.is_unspecified() || self.loopback == Some(ip) {
            let own = self.own_loopback(ip);
            let to = own.map(|ip| SocketAddr::new(ip, port)).or(primary).ok_or(Refused)?;
            return Ok(Route { to, or: primary.filter(|or| *or != to), from: Some(to.ip()) });
        }
        if ip.is_loopback() {
            // Another pod's loopback address, or nobody's.
            return Err(Refused);
        }
        // From a loopback address nothing outside is reached: there the kernel's choice is right.
        Ok(Route { to: address, or: None, from: self.primary(ip).filter(|from| !from.is_loopback()) })
    }

    /// Whether a bind to this wildcard address asks for a socket to send from, in a pod whose own address (`samara run`)
    /// is of this machine alone.
    fn is_any_outgoing(&self, address: SocketAddr) -> bool {
        let machines_own = self.primary(address.ip()).is_some_and(|ip| ip.is_loopback());
        machines_own && address.ip().is_unspecified() && address.port() == 0
    }

    /// Whether the kernel may be given this address at all: the last word, after everything above.
    pub(crate) fn may_use(&self, address: SocketAddr, use_: Use) -> bool {
        if self.is_plain() {
            return true;
        }
        let ip = address.ip().to_canonical();
        let ours = self.pod_ips.contains(&ip) || self.loopback == Some(ip);
        match use_ {
            Use::Local => ours || self.is_any_outgoing(address),
            // To the kernel the wildcard address is its own loopback.
            Use::Remote => ours || !(ip.is_loopback() || ip.is_unspecified()),
        }
    }

    /// What the guest is told of the two ends of its connection: one end on the pod's loopback makes it a local one,
    /// though the server may have been found at the pod's address.
    pub(crate) fn seen_ends(&self, local: SocketAddr, remote: SocketAddr) -> (SocketAddr, SocketAddr) {
        let is_loopback = |address: SocketAddr| !self.is_plain() && self.loopback == Some(address.ip());
        if !is_loopback(local) && !is_loopback(remote) {
            return (local, remote);
        }
        let seen = |address: SocketAddr| {
            let ours = is_loopback(address) || self.is_own(address);
            if ours { SocketAddr::new(localhost(address), address.port()) } else { address }
        };
        (seen(local), seen(remote))
    }

    /// What the guest is told of an address the kernel knows.
    pub(crate) fn seen(&self, address: SocketAddr) -> SocketAddr {
        if self.is_plain() || self.loopback != Some(address.ip()) {
            return address;
        }
        SocketAddr::new(localhost(address), address.port())
    }

    /// The pod's own address at that port, which stands for 127.0.0.1 where the server is on the wildcard address.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        self.pod_ips.contains(&address.ip())
    }
}

/// See [`Identity::may_use`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Bound to.
    Local,
    /// Connected to, sent to, received from.
    Remote,
}

/// Exactly the two addresses that programs mean by it.
fn is_localhost(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

/// 127.0.0.1 or `::1`, of the same family.
pub(super) fn localhost(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

/// The wildcard address of the same family and port.
pub(super) fn unspecified(like: SocketAddr) -> SocketAddr {
    let ip = if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, like.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Identity {
        Identity { pod_ips: vec!["10.1.0.5".parse().unwrap()], loopback: Some("127.1.0.5".parse().unwrap()) }
    }

    fn dual() -> Identity {
        Identity { pod_ips: vec!["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()], ..pod() }
    }

    /// As `samara run` has it: an address of this machine's loopback.
    fn local() -> Identity {
        Identity { pod_ips: vec!["127.64.0.5".parse().unwrap()], loopback: Some("127.192.0.5".parse().unwrap()) }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pod_on_this_machines_loopback_listens_there_and_goes_out_as_the_host() {
        assert_eq!(local().bind(at("0.0.0.0:80")), Ok(at("127.64.0.5:80")));
        assert_eq!(local().bind(at("127.0.0.1:80")), Ok(at("127.192.0.5:80")));
        assert_eq!(local().bind(at("0.0.0.0:0")), Ok(at("0.0.0.0:0")));
        assert_eq!(local().route(at("192.0.2.1:443")), Ok(Route { to: at("192.0.2.1:443"), or: None, from: None }));
        assert!(local().may_use(at("0.0.0.0:0"), Use::Local));
        for others in ["0.0.0.0:80", "127.0.0.1:80", "127.64.0.6:80"].map(at) {
            assert!(!local().may_use(others, Use::Local), "{others}");
        }
        for others in ["127.64.0.6:80", "127.0.0.53:53"].map(at) {
            assert_eq!(local().route(others), Err(Refused), "{others}");
            assert!(!local().may_use(others, Use::Remote), "{others}");
        }
        assert!(!pod().may_use(at("0.0.0.0:0"), Use::Local), "a pod with an address of the network sends from that");
    }

    #[test]
    fn a_pod_with_a_namespace_of_its_own_is_left_alone() {
        let plain = Identity::default();
        for address in ["0.0.0.0:80", "127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "10.0.0.1:80"].map(at) {
            assert_eq!(plain.bind(address), Ok(address));
            assert_eq!(plain.route(address), Ok(Route { to: address, or: None, from: None }));
            assert_eq!(plain.seen(address), address);
        }
    }

    #[test]
    fn a_pod_binds_to_its_own_addresses_only() {
        for (asked, bound) in [
            ("0.0.0.0:80", Ok("10.1.0.5:80")),
            ("127.0.0.1:80", Ok("127.1.0.5:80")),
            ("10.1.0.5:80", Ok("10.1.0.5:80")),
            ("127.1.0.5:80", Ok("127.1.0.5:80")),
            ("10.1.0.6:80", Err(Refused)),
            ("127.1.0.6:80", Err(Refused)),
            ("127.0.0.2:80", Err(Refused)),
            ("[::]:80", Err(Refused)),
            ("[::1]:80", Err(Refused)),
        ] {
            assert_eq!(pod().bind(at(asked)), bound.map(at), "{asked}");
        }
        assert_eq!(dual().bind(at("[::]:80")), Ok(at("[fd00::5]:80")));
        assert_eq!(dual().bind(at("[::1]:80")), Err(Refused), "there is one ::1 for all pods");
    }

    #[test]
    fn localhost_is_the_pods_loopback_and_then_its_address() {
        let route =
            Route { to: at("127.1.0.5:80"), or: Some(at("10.1.0.5:80")), from: Some("127.1.0.5".parse().unwrap()) };
        assert_eq!(pod().route(at("127.0.0.1:80")), Ok(route));
        assert_eq!(pod().route(at("[::1]:80")), Err(Refused));
        let route = Route { to: at("[fd00::5]:80"), or: None, from: Some("fd00::5".parse().unwrap()) };
        assert_eq!(dual().route(at("[::1]:80")), Ok(route));
    }

    #[test]
    fn others_loopback_addresses_are_out_of_reach() {
        assert_eq!(pod().route(at("127.1.0.6:80")), Err(Refused));
        assert_eq!(pod().route(at("127.0.0.53:53")), Err(Refused));
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_ipv6_clothes() {
        for pod in [pod(), dual(), local()] {
            for plain in ["127.0.0.1", "127.1.0.5", "127.1.0.6", "127.0.0.53", "0.0.0.0", "10.1.0.5", "192.0.2.1"] {
                let ip: Ipv4Addr = plain.parse().unwrap();
                let [plain, dressed] =
                    [ip.into(), ip.to_ipv6_mapped().into()].map(|ip: IpAddr| SocketAddr::new(ip, 80));
                assert_eq!(pod.route(dressed), pod.route(plain), "{dressed}");
                assert_eq!(pod.may_use(dressed, Use::Remote), pod.may_use(plain, Use::Remote), "{dressed}");
            }
        }
        assert_eq!(pod().route(at("[::ffff:127.0.0.1]:80")).unwrap().to, at("127.1.0.5:80"));
        assert_eq!(pod().route(at("[::ffff:127.1.0.6]:80")), Err(Refused));
        for wildcard in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80"].map(at) {
            assert!(!pod().may_use(wildcard, Use::Remote), "{wildcard}");
        }
    }

    #[test]
    fn everything_else_is_reached_from_the_pods_address() {
        let route = pod().route(at("192.0.2.1:443")).unwrap();
        assert_eq!(route, Route { to: at("192.0.2.1:443"), or: None, from: Some("10.1.0.5".parse().unwrap()) });
        assert_eq!(dual().route(at("[2001:db8::1]:443")).unwrap().from, Some("fd00::5".parse().unwrap()));
        assert_eq!(pod().route(at("[2001:db8::1]:443")).unwrap().from, None);
    }

    #[test]
    fn the_last_word_allows_no_foreign_address_to_be_bound_and_no_foreign_loopback_to_be_reached() {
        assert!(pod().may_use(at("10.1.0.5:80"), Use::Local));
        assert!(pod().may_use(at("127.1.0.5:80"), Use::Local));
        for foreign in ["0.0.0.0:80", "10.1.0.6:80", "127.0.0.1:80"].map(at) {
            assert!(!pod().may_use(foreign, Use::Local), "{foreign}");
        }
        assert!(pod().may_use(at("10.1.0.6:80"), Use::Remote));
        assert!(!pod().may_use(at("127.1.0.6:80"), Use::Remote));
        assert!(!pod().may_use(at("[::1]:80"), Use::Remote));
    }

    #[test]
    fn a_connection_with_an_end_on_the_loopback_is_seen_as_a_local_one() {
        let ends = |local, remote| pod().seen_ends(at(local), at(remote));
        assert_eq!(ends("127.1.0.5:9", "10.1.0.5:80"), (at("127.0.0.1:9"), at("127.0.0.1:80")));
        assert_eq!(ends("10.1.0.5:80", "127.1.0.5:9"), (at("127.0.0.1:80"), at("127.0.0.1:9")));
        assert_eq!(ends("10.1.0.5:9", "10.1.0.5:80"), (at("10.1.0.5:9"), at("10.1.0.5:80")));
        assert_eq!(ends("10.1.0.5:9", "192.0.2.1:80"), (at("10.1.0.5:9"), at("192.0.2.1:80")));
    }

    #[test]
    fn the_guest_sees_localhost_where_it_said_localhost() {
        assert_eq!(pod().seen(at("127.1.0.5:80")), at("127.0.0.1:80"));
        assert_eq!(pod().seen(at("10.1.0.5:80")), at("10.1.0.5:80"));
    }
}
