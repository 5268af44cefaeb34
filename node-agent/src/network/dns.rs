//! A pod's name service: which servers, searches and options (kubelet: `network/dns/dns.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

/// Limits of resolvers, kept by the kubelet as well.
const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_TEXT: usize = 2048;
const MOST_SEARCH: usize = 253;

/// How this node's pods resolve names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// `clusterDNS`: servers of pods with policy `ClusterFirst`. Empty: such pods fall back to the host's.
    pub servers: Vec<IpAddr>,
    /// `clusterDomain`, without a dot at its end. Empty: no cluster searches.
    pub domain: String,
}

/// What stands in a `resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// A pod's, and what a person should know of it: messages of `DNSConfigForming` and `MissingClusterDNS` events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodDns {
    pub dns: Dns,
    pub forming: Vec<String>,
    pub missing_cluster_dns: Option<String>,
}

impl Dns {
    /// Reads a `resolv.conf`. What is not understood is passed over.
    pub fn parse(text: &str) -> Self {
        let mut dns = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    let searches = words.filter(|search| *search != ".");
                    dns.searches =
                        searches.map(|search| search.strip_suffix('.').unwrap_or(search).to_owned()).collect();
                }
                Some("options") => dns.options.extend(words.map(str::to_owned)),
                Some(_) | None => {}
            }
        }
        dns
    }

    /// Writes a `resolv.conf`.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, words: &[String]| {
            if !words.is_empty() {
                text.push_str(&format!("{key} {}\n", words.join(" ")));
            }
        };
        line("search", &self.searches);
        self.servers.iter().for_each(|server| line("nameserver", std::slice::from_ref(server)));
        line("options", &self.options);
        text
    }
}

/// From the pod's policy and configuration, the cluster's and the host's.
pub fn pod_dns(pod: &Pod, cluster: &ClusterDns, host: &Dns) -> PodDns {
    let spec = pod.spec.as_ref();
    let host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let mut result = PodDns::default();
    result.dns = match policy {
        "None" => Dns::default(),
        "Default" => host.clone(),
        "ClusterFirst" if host_network => host.clone(),
        _ if cluster.servers.is_empty() => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            result.missing_cluster_dns = Some(format!(
                "pod: \"{name}_{namespace}({uid})\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                 \"ClusterFirst\" policy. Falling back to \"Default\" policy."
            ));
            host.clone()
        }
        _ => cluster_first(pod, cluster, host),
    };
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        append(&mut result.dns, config);
    }
    fit(&mut result);
    result
}

fn cluster_first(pod: &Pod, cluster: &ClusterDns, host: &Dns) -> Dns {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let domain = &cluster.domain;
    let mut searches = match domain.is_empty() {
        true => Vec::new(),
        false => vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()],
    };
    searches.extend(host.searches.iter().cloned());
    Dns {
        servers: cluster.servers.iter().map(ToString::to_string).collect(),
        searches: unique(searches),
        options: vec!["ndots:5".to_owned()],
    }
}

fn append(dns: &mut Dns, config: &PodDNSConfig) {
    dns.servers.extend(config.nameservers.iter().flatten().cloned());
    dns.servers = unique(std::mem::take(&mut dns.servers));
    dns.searches.extend(config.searches.iter().flatten().cloned());
    dns.searches = unique(std::mem::take(&mut dns.searches));
    if let Some(options) = config.options.as_ref().filter(|options| !options.is_empty()) {
        let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
        for option in &dns.options {
            let (name, value) =
                option.split_once(':').map_or((option.as_str(), None), |(name, value)| (name, Some(value)));
            all.insert(name.to_owned(), value.map(str::to_owned));
        }
        all.extend(options.iter().map(|option| (option.name.clone().unwrap_or_default(), option.value.clone())));
        let text = |(name, value): (String, Option<String>)| match value {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            Some(_) | None => name,
        };
        dns.options = all.into_iter().map(text).collect();
    }
}

fn fit(result: &mut PodDns) {
    let dns = &mut result.dns;
    if dns.servers.len() > MOST_SERVERS {
        dns.servers.truncate(MOST_SERVERS);
        result.forming.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        ));
    }
    let before = dns.searches.len();
    dns.searches.truncate(MOST_SEARCHES);
    dns.searches.retain(|search| search.len() <= MOST_SEARCH);
    while dns.searches.iter().map(|search| search.len() + 1).sum::<usize>() > MOST_SEARCH_TEXT + 1 {
        dns.searches.pop();
    }
    if dns.searches.len() < before {
        result.forming.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        ));
    }
}

fn unique(words: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    words.into_iter().filter(|word| seen.insert(word.clone())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodDNSConfigOption, PodSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn pod(policy: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                namespace: Some("shop".to_owned()),
                name: Some("web".to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { dns_policy: Some(policy.to_owned()), ..PodSpec::default() }),
            status: None,
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn cluster() -> ClusterDns {
        ClusterDns { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".to_owned() }
    }

    fn host() -> Dns {
        Dns { servers: words("192.168.0.1"), searches: words("home.example"), options: words("edns0") }
    }

    #[test]
    fn each_policy_has_its_servers_searches_and_options() {
        let first = Dns {
            servers: words("10.96.0.10"),
            searches: words("shop.svc.cluster.local svc.cluster.local cluster.local home.example"),
            options: words("ndots:5"),
        };
        let table = [("ClusterFirst", false, &first), ("ClusterFirstWithHostNet", true, &first)];
        for (policy, host_network, want) in table {
            let mut pod = pod(policy);
            pod.spec.as_mut().unwrap().host_network = Some(host_network);
            assert_eq!(pod_dns(&pod, &cluster(), &host()).dns, *want, "{policy}");
        }
        assert_eq!(pod_dns(&pod("Default"), &cluster(), &host()).dns, host());
        assert_eq!(pod_dns(&pod("None"), &cluster(), &host()).dns, Dns::default());
        let mut on_host = pod("ClusterFirst");
        on_host.spec.as_mut().unwrap().host_network = Some(true);
        assert_eq!(pod_dns(&on_host, &cluster(), &host()).dns, host());
    }

    #[test]
    fn without_cluster_dns_a_pod_gets_the_hosts_and_its_user_is_told() {
        let result = pod_dns(&pod("ClusterFirst"), &ClusterDns::default(), &host());
        assert_eq!(result.dns, host());
        assert!(result.missing_cluster_dns.unwrap().contains("Falling back to \"Default\" policy."));
    }

    #[test]
    fn the_pods_own_configuration_is_added_and_its_options_win() {
        let mut pod = pod("ClusterFirst");
        let option = |name: &str, value: Option<&str>| PodDNSConfigOption {
            name: Some(name.to_owned()),
            value: value.map(str::to_owned),
        };
        pod.spec.as_mut().unwrap().dns_config = Some(PodDNSConfig {
            nameservers: Some(words("10.96.0.10 1.1.1.1")),
            searches: Some(words("my.example")),
            options: Some(vec![option("ndots", Some("2")), option("edns0", None)]),
        });
        let dns = pod_dns(&pod, &cluster(), &Dns::default()).dns;
        assert_eq!(dns.servers, words("10.96.0.10 1.1.1.1"));
        assert_eq!(dns.searches.last().unwrap(), "my.example");
        assert_eq!(dns.options, words("edns0 ndots:2"));
    }

    #[test]
    fn what_is_too_much_is_cut_and_told() {
        let mut pod = pod("None");
        let searches: Vec<String> = (0..40).map(|number| format!("s{number}.example")).collect();
        pod.spec.as_mut().unwrap().dns_config = Some(PodDNSConfig {
            nameservers: Some(words("1.1.1.1 2.2.2.2 3.3.3.3 4.4.4.4")),
            searches: Some(searches),
            options: None,
        });
        let result = pod_dns(&pod, &cluster(), &host());
        assert_eq!(result.dns.servers.len(), 3);
        assert_eq!(result.dns.searches.len(), 32);
        assert_eq!(result.forming.len(), 2);

        let long: Vec<String> = (0..20).map(|number| format!("{number}{}", "x".repeat(200))).collect();
        pod.spec.as_mut().unwrap().dns_config.as_mut().unwrap().searches = Some(long);
        let dns = pod_dns(&pod, &cluster(), &host()).dns;
        assert!(dns.searches.join(" ").len() <= MOST_SEARCH_TEXT);
        assert!(!dns.searches.is_empty());
    }

    #[test]
    fn a_hosts_file_is_read_as_resolvers_read_it() {
        let text = "# comment\n; other\nsearch a.example. . b.example\n  nameserver 1.1.1.1 # x\nnameserver\noptions ndots:2 rotate\nsortlist x";
        let dns = Dns::parse(text);
        assert_eq!(
            dns,
            Dns { servers: words("1.1.1.1"), searches: words("a.example b.example"), options: words("ndots:2 rotate") }
        );
        assert_eq!(Dns::parse(&dns.to_text()), dns);
        assert_eq!(Dns::parse(""), Dns::default());
        assert_eq!(Dns::default().to_text(), "");
    }
}
