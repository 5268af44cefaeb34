//! `resolv.conf` and `hosts`, as glibc reads them.

use std::net::{IpAddr, SocketAddr};

use crate::plan::GuestNetwork;

/// Fills in what annotations left open.
pub(crate) fn parse_resolv_conf(text: &str, network: &mut GuestNetwork) {
    let mut parsed = GuestNetwork::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A scope id (`fe80::1%eth0`) names an interface that the pod may not have.
                let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                parsed.dns_servers.extend(ip.map(|ip| SocketAddr::new(ip, 53)));
            }
            // The last of several counts.
            Some("search" | "domain") => parsed.dns_searches = words.map(str::to_owned).collect(),
            Some("options") => parsed.dns_options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    let fill = |field: &mut Vec<String>, from| {
        if field.is_empty() {
            *field = from
        }
    };
    if network.dns_servers.is_empty() {
        network.dns_servers = parsed.dns_servers;
    }
    fill(&mut network.dns_searches, parsed.dns_searches);
    fill(&mut network.dns_options, parsed.dns_options);
}

/// Addresses and their names; comments and nonsense are left out.
pub(crate) fn parse_hosts(text: &str) -> Vec<(IpAddr, Vec<String>)> {
    let line = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        let names: Vec<_> = words.map(str::to_owned).collect();
        (!names.is_empty()).then_some((ip, names))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_resolv_conf_is_read() {
        let text = "# by kubelet\nsearch default.svc.cluster.local svc.cluster.local\n\
                    nameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver\noptions ndots:5 timeout:1\n";
        let mut network = GuestNetwork::default();
        parse_resolv_conf(text, &mut network);
        let expected = GuestNetwork {
            dns_servers: vec!["10.96.0.10:53".parse().expect("address")],
            dns_searches: vec!["default.svc.cluster.local".into(), "svc.cluster.local".into()],
            dns_options: vec!["ndots:5".into(), "timeout:1".into()],
            ..GuestNetwork::default()
        };
        assert_eq!(network, expected);
    }

    #[test]
    fn what_annotations_say_stays() {
        let mut network = GuestNetwork { dns_searches: vec!["mine".into()], ..GuestNetwork::default() };
        parse_resolv_conf("search other\nnameserver 1.1.1.1\n", &mut network);
        assert_eq!((network.dns_searches, network.dns_servers.len()), (vec!["mine".into()], 1));
    }

    #[test]
    fn a_hosts_file_is_read_without_comments() {
        let hosts = parse_hosts("127.0.0.1 localhost # self\n::1 ip6-localhost ip6-loopback\nnonsense x\n10.0.0.1\n");
        let expected: Vec<(IpAddr, Vec<String>)> = vec![
            ("127.0.0.1".parse().expect("ip"), vec!["localhost".into()]),
            ("::1".parse().expect("ip"), vec!["ip6-localhost".into(), "ip6-loopback".into()]),
        ];
        assert_eq!(hosts, expected);
    }
}
