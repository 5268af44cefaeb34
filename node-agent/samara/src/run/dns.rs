//! Name servers for a guest on the private network: what it cannot reach on the host's loopback is replaced by what
//! stands behind it. Pure.

use std::net::IpAddr;

/// Where systemd-resolved writes the servers that it asks itself.
pub(super) const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Empty: the host's own list serves as it is.
pub(super) fn servers(resolv_conf: &str, behind: &str) -> Vec<IpAddr> {
    let own = nameservers(resolv_conf);
    if own.iter().any(|server| !server.is_loopback()) {
        return Vec::new();
    }
    nameservers(behind).into_iter().filter(|server| server.is_ipv4() && !server.is_loopback()).collect()
}

fn nameservers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok();
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_loopback_are_replaced_by_those_behind_them() {
        let behind = "# comment\nnameserver 192.0.2.53\nnameserver 127.0.0.1\nnameserver fe80::1\nnameserver odd\n";
        let found = ["192.0.2.53".parse::<IpAddr>().unwrap()];
        for (own, expected) in [
            ("nameserver 127.0.0.53\noptions edns0\n", &found[..]),
            ("", &found),
            ("nameserver 198.51.100.1\n", &[]),
            ("nameserver 127.0.0.53\nnameserver 198.51.100.1\n", &[]),
        ] {
            assert_eq!(servers(own, behind), expected, "{own:?}");
        }
        assert_eq!(servers("nameserver 127.0.0.53", ""), [] as [IpAddr; 0]);
    }
}
