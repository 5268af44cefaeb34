//! Addresses inside a run. Every run has namespaces of its own, so they are the same in each.

use std::net::Ipv4Addr;

/// The control plane's end of the bridge: API server, registry, and the nodes' gateway.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Of the bridge's network.
pub const PREFIX: u8 = 16;
/// API server. Port 443, because then the `kubernetes` Service's cluster IP (an address of the same namespace) leads to
/// it without a kube-proxy.
pub const API_PORT: u16 = 443;
/// Plain-HTTP registry.
pub const REGISTRY_PORT: u16 = 5000;
/// Service network; its first address is the `kubernetes` Service.
pub const SERVICES: &str = "10.96.0.0/16";
/// The `kubernetes` Service.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Pod network, of which each node gets a part.
pub const PODS: &str = "10.244.0.0/14";

/// Address of the n-th node of a run, from 0.
pub fn node(index: u16) -> Ipv4Addr {
    let [high, low] = (index + 256).to_be_bytes();
    Ipv4Addr::new(10, 88, high, low)
}

/// The API server's address.
pub fn api_server() -> String {
    format!("https://{CONTROL_PLANE}:{API_PORT}")
}

/// The registry's host and port, as it stands in image references.
pub fn registry() -> String {
    format!("{CONTROL_PLANE}:{REGISTRY_PORT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_node_has_the_control_planes_address() {
        assert_eq!(node(0), Ipv4Addr::new(10, 88, 1, 0));
        assert_eq!(node(300), Ipv4Addr::new(10, 88, 2, 44));
    }
}
