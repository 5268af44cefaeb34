//! Which addresses the node has for others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::NodeConfig;

/// No usable address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// `--node-ip` names an address that is not one of this host.
    #[error("--node-ip {ip}: not an address of this host that others could use: {reason}")]
    NotOurs {
        /// The address.
        ip: IpAddr,
        /// What is wrong with it.
        reason: String,
    },
    /// There is neither a default route nor one to the API server.
    #[error("no route to the outside or to the API server at {server}: set --node-ip")]
    NoRoute {
        /// The API server.
        server: String,
    },
}

/// The configured addresses, else the one with which the default route is reached, else the one towards the API server.
pub(super) async fn of_node(config: &NodeConfig, api_server: Option<&str>) -> Result<Vec<IpAddr>, AddressError> {
    if !config.ips.is_empty() {
        for ip in &config.ips {
            ours(*ip).await?;
        }
        return Ok(config.ips.clone());
    }
    // Addresses for documentation: nobody's, so only the default route leads there. Nothing is sent.
    let outside: [IpAddr; 2] =
        [Ipv4Addr::new(198, 51, 100, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    for target in outside {
        if let Ok(source) = source_towards(SocketAddr::new(target, 9)).await {
            return Ok(vec![source]);
        }
    }
    let Some(api_server) = api_server else { return Ok(vec![Ipv4Addr::LOCALHOST.into()]) };
    let server = tokio::net::lookup_host(authority(api_server)).await.into_iter().flatten();
    for target in server {
        if let Ok(source) = source_towards(target).await {
            return Ok(vec![source]);
        }
    }
    Err(AddressError::NoRoute { server: api_server.to_owned() })
}

/// The address that the kernel would send from. Connecting a datagram socket asks the routing table and sends nothing.
async fn source_towards(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

/// As the kubelet's `validateNodeIP`.
async fn ours(ip: IpAddr) -> Result<(), AddressError> {
    let refuse = |reason: &str| Err(AddressError::NotOurs { ip, reason: reason.to_owned() });
    if ip.is_unspecified() {
        return refuse("it means any address");
    }
    if ip.is_multicast() {
        return refuse("it is a multicast address");
    }
    if let IpAddr::V4(v4) = ip
        && v4.is_link_local()
    {
        return refuse("it is link-local");
    }
    match UdpSocket::bind((ip, 0)).await {
        Ok(_bound) => Ok(()),
        Err(error) => refuse(&error.to_string()),
    }
}

/// `host:port` of a URL.
fn authority(url: &str) -> String {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or(url);
    format!("{host}:{}", uri.as_ref().and_then(http::Uri::port_u16).unwrap_or(443))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(ips: &[&str]) -> NodeConfig {
        NodeConfig { ips: ips.iter().map(|ip| ip.parse().expect("an address")).collect(), ..NodeConfig::default() }
    }

    #[tokio::test]
    async fn configured_addresses_are_taken_in_their_order() {
        let found = of_node(&with(&["127.0.0.1", "127.0.0.2"]), Some("https://x")).await.expect("both are this host's");
        assert_eq!(found, ["127.0.0.1".parse::<IpAddr>().expect("v4"), "127.0.0.2".parse().expect("v4")]);
    }

    #[tokio::test]
    async fn a_foreign_address_is_refused_by_name() {
        for ip in ["203.0.113.7", "0.0.0.0", "224.0.0.1", "169.254.0.1"] {
            let error = of_node(&with(&[ip]), Some("https://x")).await.expect_err("not ours");
            assert!(error.to_string().starts_with(&format!("--node-ip {ip}: ")), "{error}");
        }
    }

    #[tokio::test]
    async fn the_way_to_the_api_server_tells_our_address() {
        let source = source_towards(([127, 0, 0, 1], 6443).into()).await.expect("loopback");
        assert_eq!(source, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(authority("https://127.0.0.1:6443/"), "127.0.0.1:6443");
        assert_eq!(authority("https://[::1]/"), "[::1]:443");
    }
}
