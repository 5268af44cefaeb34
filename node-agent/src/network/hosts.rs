//! A pod's names: host name, domain, and the hosts file (kubelet: `kubelet_pods.go`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

/// The kernel's limit is 64 bytes with the end mark.
const LONGEST: usize = 63;

/// What a pod is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    pub name: String,
    /// `subdomain.namespace.svc.domain`; empty without a subdomain.
    pub domain: String,
    /// What `gethostname` says: the full name if the pod wants that, for a hostNetwork pod the node's.
    pub kernel: String,
}

/// From the pod's name, `hostname`, `subdomain`, `setHostnameAsFQDN` and `hostNetwork`.
pub fn host_name(pod: &Pod, cluster_domain: &str, node_hostname: &str) -> HostName {
    let spec = pod.spec.as_ref();
    let text = |field: Option<&String>| field.filter(|text| !text.is_empty()).cloned();
    if let Some(name) = spec.and_then(|spec| text(spec.hostname_override.as_ref())) {
        let name = cut(&name);
        return HostName { kernel: name.clone(), name, domain: String::new() };
    }
    let name =
        spec.and_then(|spec| text(spec.hostname.as_ref())).or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let name = cut(&name);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let domain = spec
        .and_then(|spec| text(spec.subdomain.as_ref()))
        .map(|subdomain| format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
        .unwrap_or_default();
    let full = spec.is_some_and(|spec| spec.set_hostname_as_fqdn == Some(true)) && !domain.is_empty();
    let on_host = spec.is_some_and(|spec| spec.host_network == Some(true));
    let kernel = match (on_host, full) {
        (true, _) => node_hostname.to_owned(),
        (false, true) => format!("{name}.{domain}"),
        (false, false) => name.clone(),
    };
    HostName { name, domain, kernel }
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => name[..end].trim_end_matches(['-', '.']).to_owned(),
        None => name.to_owned(),
    }
}

/// The hosts file of a pod with addresses of its own.
pub fn hosts_file(ips: &[IpAddr], host: &HostName, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        match host.domain.is_empty() {
            true => text.push_str(&format!("{ip}\t{}\n", host.name)),
            false => text.push_str(&format!("{ip}\t{0}.{1}\t{0}\n", host.name, host.domain)),
        }
    }
    text + &alias_lines(aliases)
}

/// The hosts file of a pod on the host's network: the host's own and the aliases.
pub fn hosts_file_of_host(host_file: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host_file}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let line =
        |alias: &HostAlias| format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    format!("\n# Entries added by HostAliases.\n{}", aliases.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn named(name: &str, change: impl FnOnce(&mut PodSpec)) -> HostName {
        let mut spec = PodSpec::default();
        change(&mut spec);
        let metadata =
            ObjectMeta { name: Some(name.to_owned()), namespace: Some("shop".to_owned()), ..ObjectMeta::default() };
        host_name(&Pod { metadata, spec: Some(spec), status: None }, "cluster.local", "node-1")
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_pod_is_called_by_its_name_or_as_it_wishes() {
        let plain = named("web-1", |_| {});
        assert_eq!((plain.name.as_str(), plain.domain.as_str(), plain.kernel.as_str()), ("web-1", "", "web-1"));
        let wished = named("web-1", |spec| (spec.hostname, spec.subdomain) = (text("db"), text("data")));
        assert_eq!((wished.name.as_str(), wished.domain.as_str()), ("db", "data.shop.svc.cluster.local"));
        assert_eq!(wished.kernel, "db");
        let full = named("web-1", |spec| (spec.subdomain, spec.set_hostname_as_fqdn) = (text("data"), Some(true)));
        assert_eq!(full.kernel, "web-1.data.shop.svc.cluster.local");
        let on_host = named("web-1", |spec| spec.host_network = Some(true));
        assert_eq!(on_host.kernel, "node-1");
        let override_ = named("web-1", |spec| spec.hostname_override = text("own.example"));
        assert_eq!((override_.kernel.as_str(), override_.domain.as_str()), ("own.example", ""));
    }

    #[test]
    fn a_long_name_is_cut_and_does_not_end_in_a_dash() {
        let long = format!("{}-{}", "x".repeat(62), "y".repeat(10));
        assert_eq!(named(&long, |_| {}).name, "x".repeat(62));
        assert_eq!(named(&"z".repeat(63), |_| {}).name, "z".repeat(63));
    }

    #[test]
    fn the_hosts_file_is_the_kubelets() {
        let host =
            HostName { name: "db".to_owned(), domain: "data.shop.svc.cluster.local".to_owned(), kernel: String::new() };
        let aliases =
            [HostAlias { ip: "1.2.3.4".to_owned(), hostnames: Some(vec!["foo".to_owned(), "bar".to_owned()]) }];
        let want = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
            fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
            10.0.0.2\tdb.data.shop.svc.cluster.local\tdb\n\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n";
        assert_eq!(hosts_file(&["10.0.0.2".parse().unwrap()], &host, &aliases), want);
        assert_eq!(
            hosts_file_of_host("127.0.0.1 x\n", &[]),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 x\n"
        );
    }
}
