//! How registries are reached.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How registries are reached. The default speaks TLS to all but those of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Registries spoken to without TLS, as `host` (any port) or `host:port`. `localhost`, 127.0.0.0/8 and `::1` are so too, as docker has it.
    pub plain_http: Vec<String>,
    /// Registries spoken to with TLS though they are on this machine, as `host:port`.
    pub tls: Vec<String>,
    /// Certificates, in PEM, of authorities which are trusted beside the system's.
    pub authorities: Vec<Vec<u8>>,
    /// Where containerd keeps settings per registry (`/etc/containerd/certs.d`): mirrors, authorities, client certificates. See
    /// [`parse_hosts`](crate::parse_hosts) for what is read. Default none.
    pub hosts_dir: Option<PathBuf>,
    /// Through whom they are reached. Default: as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say. This machine never is.
    pub proxy: Option<Proxy>,
    /// For a connection to be made. Default 15 s.
    pub connect_timeout: Duration,
    /// For the next bytes to come. Default 30 s.
    pub read_timeout: Duration,
    /// For a manifest, configuration or token to come whole. Default 120 s.
    pub document_timeout: Duration,
}

/// Proxies, in place of those which the environment names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Address of the one for registries without TLS.
    pub http: Option<String>,
    /// Address of the one for registries with TLS.
    pub https: Option<String>,
    /// Whom not to reach through it, in the form of `NO_PROXY`: domains, addresses and networks, separated by commas.
    pub except: String,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            tls: Vec::new(),
            authorities: Vec::new(),
            hosts_dir: None,
            proxy: None,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_secs(120),
        }
    }
}

impl RegistryConfig {
    /// Whether this registry is spoken to without TLS.
    pub(crate) fn is_plain(&self, registry: &str) -> bool {
        let host = host(registry);
        let listed = |list: &[String]| list.iter().any(|entry| entry == registry || entry == host);
        if listed(&self.tls) {
            return false;
        }
        listed(&self.plain_http) || (is_local(host) && !registry.ends_with(":443"))
    }
}

/// Without the port; an IPv6 address keeps its brackets.
fn host(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    }
}

fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_those_listed_are_spoken_to_without_tls() {
        let config = RegistryConfig {
            plain_http: vec!["registry.lan".into(), "10.0.0.1:5000".into()],
            tls: vec!["localhost:5443".into()],
            ..RegistryConfig::default()
        };
        for plain in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
            "registry.lan:80",
            "10.0.0.1:5000",
        ] {
            assert!(config.is_plain(plain), "{plain}");
        }
        for tls in [
            "docker.io",
            "localhost:5443",
            "localhost:443",
            "10.0.0.1:5001",
            "localhost.example.com",
            "[::2]:5000",
            "128.0.0.1",
        ] {
            assert!(!config.is_plain(tls), "{tls}");
        }
    }
}
