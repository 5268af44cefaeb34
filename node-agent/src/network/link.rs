//! The wires: a veth pair, routes and neighbours, over rtnetlink. Every step may be done again.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::cidr::Cidr;
use super::netns::{self, NetnsError};

/// The host's end of the wire.
const HOST_LINK: &str = "samara0";
/// The pods' end of it.
const PODS_LINK: &str = "eth0";
/// `RT_TABLE_LOCAL`: looked at before all others.
const LOCAL_TABLE: u32 = 255;
/// Locally administered, the same on every node: the two ends are alone on their wire.
const HOST_MAC: [u8; 6] = [0x02, 0x73, 0x61, 0x6d, 0x00, 0x01];
const PODS_MAC: [u8; 6] = [0x02, 0x73, 0x61, 0x6d, 0x00, 0x02];

/// Wiring the pods' namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error("open a netlink socket")]
    Socket(#[source] io::Error),
    #[error("{operation}")]
    Netlink {
        operation: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("set {path} to {value}")]
    Sysctl {
        path: String,
        value: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Joins the namespace at `pods` to this thread's and routes `range` there.
pub(super) async fn wire(pods: &Path, range: Cidr) -> Result<(), LinkError> {
    let host = Netlink::open()?;
    let has_peer = on_own_runtime(pods, || async { Netlink::open()?.index(PODS_LINK).await })?.is_some();
    match host.index(HOST_LINK).await? {
        Some(_) if has_peer => {}
        Some(stale) => {
            host.delete(stale).await?;
            host.make_pair(pods).await?;
        }
        None => host.make_pair(pods).await?,
    }
    on_own_runtime(pods, || wire_inside(range))?;
    wire_outside(&host, range).await
}

async fn wire_outside(host: &Netlink, range: Cidr) -> Result<(), LinkError> {
    let link = host.up(HOST_LINK).await?;
    host.address(link, range.gateway()).await?;
    host.neighbour(link, hop(range), &PODS_MAC).await?;
    let route = RouteMessageBuilder::<IpAddr>::new().output_interface(link).onlink();
    host.route(route, Some((range.base(), range.prefix())), Some(hop(range)), range).await?;
    match range.base() {
        IpAddr::V4(_) => sysctl("net/ipv4/ip_forward", "1"),
        IpAddr::V6(_) => sysctl("net/ipv6/conf/all/forwarding", "1"),
    }
}

async fn wire_inside(range: Cidr) -> Result<(), LinkError> {
    let pods = Netlink::open()?;
    let loopback = pods.up("lo").await?;
    let link = pods.up(PODS_LINK).await?;
    pods.neighbour(link, hop(range), &HOST_MAC).await?;

    let local = RouteMessageBuilder::<IpAddr>::new()
        .table_id(LOCAL_TABLE)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .output_interface(loopback);
    pods.route(local, Some((range.base(), range.prefix())), None, range).await?;
    // The host's own end lies in the range and is not local here: the longer prefix wins within the table.
    let width = if range.base().is_ipv4() { 32 } else { 128 };
    let host = RouteMessageBuilder::<IpAddr>::new().table_id(LOCAL_TABLE).output_interface(link).onlink();
    pods.route(host, Some((range.gateway(), width)), Some(hop(range)), range).await?;
    let everything_else = RouteMessageBuilder::<IpAddr>::new().output_interface(link).onlink();
    pods.route(everything_else, None, Some(hop(range)), range).await?;

    sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
    match range.base() {
        IpAddr::V4(_) => Ok(()),
        // Unlike IPv4's, IPv6's bind looks for the address on an interface; a route that makes it local is not enough.
        IpAddr::V6(_) => sysctl("net/ipv6/ip_nonlocal_bind", "1"),
    }
}

/// The next hop on either side: an address nobody has, made known by a permanent neighbour.
fn hop(range: Cidr) -> IpAddr {
    match range.base() {
        IpAddr::V4(_) => Ipv4Addr::new(169, 254, 1, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x5361, 1).into(),
    }
}

/// Runs a future on a thread inside the namespace: a netlink socket speaks for the namespace in which it was opened.
fn on_own_runtime<T, F>(pods: &Path, work: impl FnOnce() -> F + Send) -> Result<T, LinkError>
where
    T: Send,
    F: Future<Output = Result<T, LinkError>>,
{
    netns::inside(pods, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(LinkError::Socket)?;
        runtime.block_on(work())
    })?
}

fn sysctl(key: &str, value: &'static str) -> Result<(), LinkError> {
    let path = format!("/proc/sys/{key}");
    // Where /proc/sys is read-only the setting may still be right.
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| LinkError::Sysctl { path, value, source })
}

/// A netlink socket in the namespace of the thread that opened it.
struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    async fn index(&self, name: &str) -> Result<Option<u32>, LinkError> {
        let mut links = Box::pin(self.handle.link().get().match_name(name).execute());
        match links.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(source) if is_missing(&source) => Ok(None),
            Err(source) => Err(LinkError::Netlink { operation: format!("look up link {name}"), source }),
        }
    }

    async fn make_pair(&self, pods: &Path) -> Result<(), LinkError> {
        let error = |source| LinkError::Netlink { operation: format!("make link {HOST_LINK}"), source };
        let namespace = File::open(pods).map_err(LinkError::Socket)?;
        let peer =
            LinkUnspec::new_with_name(PODS_LINK).address(PODS_MAC.to_vec()).setns_by_fd(namespace.as_raw_fd()).build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(HOST_LINK)
            .address(HOST_MAC.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle.link().add(pair).execute().await.map_err(error)
    }

    async fn delete(&self, link: u32) -> Result<(), LinkError> {
        let error = |source| LinkError::Netlink { operation: format!("delete link {HOST_LINK}"), source };
        self.handle.link().del(link).execute().await.map_err(error)
    }

    async fn up(&self, name: &str) -> Result<u32, LinkError> {
        let error = |source| LinkError::Netlink { operation: format!("set link {name} up"), source };
        let index = self.index(name).await?.ok_or_else(|| error(rtnetlink::Error::RequestFailed))?;
        self.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(error)?;
        Ok(index)
    }

    async fn address(&self, link: u32, address: IpAddr) -> Result<(), LinkError> {
        let error = |source| LinkError::Netlink { operation: format!("give {address} to {HOST_LINK}"), source };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(link, address, width).replace();
        // Nobody else is on this link; without this an IPv6 address cannot be used for its first second or two.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.map_err(error)
    }

    async fn neighbour(&self, link: u32, address: IpAddr, mac: &[u8]) -> Result<(), LinkError> {
        let error = |source| LinkError::Netlink { operation: format!("make neighbour {address}"), source };
        self.handle.neighbours().add(link, address).link_layer_address(mac).replace().execute().await.map_err(error)
    }

    async fn route(
        &self,
        route: RouteMessageBuilder<IpAddr>,
        to: Option<(IpAddr, u8)>,
        via: Option<IpAddr>,
        range: Cidr,
    ) -> Result<(), LinkError> {
        let text = || to.map_or_else(|| "default".to_owned(), |(address, prefix)| format!("{address}/{prefix}"));
        let error = |source| LinkError::Netlink { operation: format!("make route to {}", text()), source };
        // The range gives a default route its address family.
        let (address, prefix) = to.unwrap_or(match range.base() {
            IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), 0),
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), 0),
        });
        let mut route = route.destination_prefix(address, prefix).map_err(|source| error(invalid(source)))?;
        if let Some(via) = via {
            route = route.gateway(via).map_err(|source| error(invalid(source)))?;
        }
        self.handle.route().add(route.build()).replace().execute().await.map_err(error)
    }
}

fn is_missing(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.to_io().raw_os_error() == Some(nix::libc::ENODEV))
}

fn invalid(source: impl std::error::Error) -> rtnetlink::Error {
    rtnetlink::Error::InvalidNla(source.to_string())
}
