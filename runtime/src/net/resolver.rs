//! Names to addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;

use super::Identity;
use crate::Dns;

/// Why there are no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookUpError {
    #[error("no such name")]
    NoSuchName,
    #[error("no server answered in time")]
    Temporary,
    #[error("no server could answer")]
    Permanent,
}

/// Looks up names. Answers in the order in which they are to be tried.
pub(crate) trait Resolver: Send + Sync {
    fn look_up(&self, name: String) -> BoxFuture<'static, Result<Vec<IpAddr>, LookUpError>>;
}

/// The pod's `hosts` and `resolv.conf`, asked for under the pod's address. Belongs to the runtime on which it is first
/// used.
pub(crate) fn hickory(dns: &Dns, identity: Arc<Identity>) -> Arc<dyn Resolver> {
    Arc::new(Hickory(Arc::new(Inner { dns: dns.clone(), identity, resolver: OnceLock::new() })))
}

struct Hickory(Arc<Inner>);

struct Inner {
    dns: Dns,
    identity: Arc<Identity>,
    /// Made by the first look-up: most guests make none.
    resolver: OnceLock<Option<TokioResolver>>,
}

impl Resolver for Hickory {
    fn look_up(&self, name: String) -> BoxFuture<'static, Result<Vec<IpAddr>, LookUpError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let known = in_hosts(&inner.dns, &name);
            if !known.is_empty() {
                return Ok(known);
            }
            let Some(resolver) = inner.resolver() else { return Err(LookUpError::NoSuchName) };
            match resolver.lookup_ip(name).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) => Err(classify(&error)),
            }
        })
    }
}

impl Inner {
    fn resolver(&self) -> Option<&TokioResolver> {
        self.resolver.get_or_init(|| build(&self.dns, &self.identity)).as_ref()
    }
}

/// `None` without servers, or if none of them can be used.
fn build(dns: &Dns, identity: &Identity) -> Option<TokioResolver> {
    let servers: Vec<_> = dns.servers.iter().filter_map(|server| name_server(*server, identity)).collect();
    if servers.is_empty() {
        return None;
    }
    // What is no name cannot be searched in.
    let searches = dns.searches.iter().filter_map(|search| Name::from_utf8(search).ok()).collect();
    let config = ResolverConfig::from_parts(None, searches, servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options(&dns.options);
    builder.build().inspect_err(|error| tracing::warn!(%error, "make the resolver")).ok()
}

/// A server as it is reached from the pod.
fn name_server(server: SocketAddr, identity: &Identity) -> Option<NameServerConfig> {
    let route = identity.route(server).ok()?;
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = route.to.port();
        connection.bind_addr = route.from.map(|from| SocketAddr::new(from, 0));
        connection
    });
    Some(NameServerConfig::new(route.to.ip(), true, connections.into()))
}

/// `ndots:5`, `timeout:2`, `attempts:3` as in resolv.conf(5), with its bounds.
fn options(texts: &[String]) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 256;
    for (name, value) in texts.iter().filter_map(|text| text.split_once(':')) {
        let Ok(value) = value.parse::<usize>() else { continue };
        match name {
            "ndots" => options.ndots = value.min(15),
            "timeout" => options.timeout = Duration::from_secs(value.clamp(1, 30) as u64),
            "attempts" => options.attempts = value.clamp(1, 5),
            _ => {}
        }
    }
    options
}

/// What the hosts file says, and what `localhost` means where it says nothing.
fn in_hosts(dns: &Dns, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_named = |names: &[String]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let mut found: Vec<IpAddr> =
        dns.hosts.iter().filter(|(_, names)| is_named(names)).map(|(address, _)| *address).collect();
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found
}

fn classify(error: &NetError) -> LookUpError {
    if error.is_nx_domain() || error.is_no_records_found() {
        return LookUpError::NoSuchName;
    }
    let passing = matches!(error, NetError::Timeout | NetError::Busy | NetError::Io(_) | NetError::NoConnections);
    if passing { LookUpError::Temporary } else { LookUpError::Permanent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns() -> Dns {
        Dns {
            hosts: vec![
                ("10.1.0.5".parse().unwrap(), vec!["web".into(), "web.example".into()]),
                ("fd00::5".parse().unwrap(), vec!["web".into()]),
            ],
            ..Dns::default()
        }
    }

    #[test]
    fn hosts_are_found_whatever_their_case_and_with_a_final_dot() {
        let both: [IpAddr; 2] = ["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(in_hosts(&dns(), "WEB."), both);
        assert_eq!(in_hosts(&dns(), "web.example"), both[..1]);
        assert!(in_hosts(&dns(), "we").is_empty());
        assert_eq!(in_hosts(&dns(), "localhost").len(), 2);
    }

    #[test]
    fn options_are_read_within_their_bounds_and_nonsense_is_ignored() {
        let texts = ["ndots:5", "timeout:99", "attempts:0", "rotate", "ndots:x", "edns0"].map(str::to_owned);
        let options = options(&texts);
        assert_eq!((options.ndots, options.timeout, options.attempts), (5, Duration::from_secs(30), 1));
    }

    #[test]
    fn a_server_on_a_foreign_loopback_is_not_asked() {
        let network = crate::Network { pod_ips: vec!["10.1.0.5".parse().unwrap()], ..crate::Network::default() };
        let identity = Identity::new(&network);
        for others in ["127.0.0.53:53", "[::ffff:127.0.0.53]:53"] {
            assert!(name_server(others.parse().unwrap(), &identity).is_none(), "{others}");
        }
        let server = name_server("10.96.0.10:53".parse().unwrap(), &identity).unwrap();
        assert!(server.connections.iter().all(|one| one.bind_addr == Some("10.1.0.5:0".parse().unwrap())));
    }

    #[tokio::test]
    async fn without_servers_only_hosts_are_known() {
        let resolver = hickory(&dns(), Arc::default());
        assert_eq!(resolver.look_up("web".into()).await.unwrap().len(), 2);
        assert_eq!(resolver.look_up("other".into()).await, Err(LookUpError::NoSuchName));
    }
}
