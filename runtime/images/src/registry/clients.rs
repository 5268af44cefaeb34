//! HTTP clients, one for each way to trust; connections are shared by all who speak in the same way.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, NoProxy, Url};

use super::endpoint::{Endpoint, Tls};
use super::{RegistryConfig, RegistryFailure};

/// No bundle of certificates is longer.
const LONGEST_PEM: u64 = 8 << 20;

#[derive(Default)]
pub(super) struct Clients {
    clients: Mutex<HashMap<Way, Client>>,
}

/// How one is spoken to. Files are in it by their content, so that renewed certificates are taken up.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    tls: Option<Trust>,
    local: bool,
    connect_timeout: Duration,
}

#[derive(PartialEq, Eq, Hash, Default)]
struct Trust {
    authorities: Vec<Vec<u8>>,
    identity: Option<Vec<u8>>,
    skip_verify: bool,
}

impl Clients {
    /// A client for an endpoint. It follows no redirects: what may go along is decided by who asks.
    pub(super) fn for_endpoint(&self, config: &RegistryConfig, endpoint: &Endpoint) -> Result<Client, RegistryFailure> {
        self.for_tokens(config, endpoint, &endpoint.base)
    }

    /// A client for the service that gives tokens for an endpoint: trusts and shows the same, and speaks TLS where that is written.
    pub(super) fn for_tokens(
        &self,
        config: &RegistryConfig,
        endpoint: &Endpoint,
        url: &Url,
    ) -> Result<Client, RegistryFailure> {
        self.get(config, endpoint, url, Trust::of)
    }

    /// A client for wherever an endpoint sends us: trusts the same, as containerd has it, and shows nothing.
    pub(super) fn for_elsewhere(
        &self,
        config: &RegistryConfig,
        endpoint: &Endpoint,
        url: &Url,
    ) -> Result<Client, RegistryFailure> {
        self.get(config, endpoint, url, |tls| Ok(Trust { identity: None, ..Trust::of(tls)? }))
    }

    fn get(
        &self,
        config: &RegistryConfig,
        endpoint: &Endpoint,
        url: &Url,
        trust: impl FnOnce(&Tls) -> Result<Trust, RegistryFailure>,
    ) -> Result<Client, RegistryFailure> {
        let tls = match url.scheme() {
            "https" => Some(trust(&endpoint.tls)?),
            _ => None,
        };
        let connect_timeout = endpoint.connect_timeout.unwrap_or(config.connect_timeout);
        let way = Way { tls, local: is_local(url), connect_timeout };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let client = build(config, &way)?;
        clients.insert(way, client.clone());
        Ok(client)
    }
}

impl Trust {
    fn of(tls: &Tls) -> Result<Self, RegistryFailure> {
        let authorities = tls.authorities.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
        let identity = match &tls.identity {
            None => None,
            Some((certificate, key)) => {
                let mut pem = read(certificate)?;
                if let Some(key) = key {
                    pem.push(b'\n');
                    pem.extend(read(key)?);
                }
                Some(pem)
            }
        };
        Ok(Self { authorities, identity, skip_verify: tls.skip_verify })
    }
}

/// A proxy is never asked for this machine.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn build(config: &RegistryConfig, way: &Way) -> Result<Client, RegistryFailure> {
    let wrong = |error: reqwest::Error| RegistryFailure::configuration(&error);
    let mut builder = Client::builder()
        .user_agent(concat!("samara/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(way.connect_timeout)
        .redirect(Policy::none());
    if way.local {
        builder = builder.no_proxy();
    } else if let Some(proxy) = &config.proxy {
        builder = builder.no_proxy();
        let except = NoProxy::from_string(&proxy.except);
        if let Some(url) = &proxy.http {
            builder = builder.proxy(reqwest::Proxy::http(url.as_str()).map_err(wrong)?.no_proxy(except.clone()));
        }
        if let Some(url) = &proxy.https {
            builder = builder.proxy(reqwest::Proxy::https(url.as_str()).map_err(wrong)?.no_proxy(except));
        }
    }
    let Some(trust) = &way.tls else {
        if !way.local {
            // There may be a proxy between, and some close connections without saying so: each request has its own.
            builder = builder.pool_max_idle_per_host(0);
        }
        // Without TLS nobody is trusted, and a device without any certificates can still be served.
        return builder.tls_certs_only([]).build().map_err(wrong);
    };
    let mut authorities = Vec::new();
    for pem in config.authorities.iter().chain(&trust.authorities) {
        authorities.extend(Certificate::from_pem_bundle(pem).map_err(wrong)?);
    }
    builder = builder.https_only(true).tls_certs_merge(authorities);
    if let Some(pem) = &trust.identity {
        builder = builder.identity(Identity::from_pem(pem).map_err(wrong)?);
    }
    if trust.skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(wrong)
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryFailure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_PEM).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(RegistryFailure::Configuration(format!("{}: {error}", path.display()))),
    }
}
