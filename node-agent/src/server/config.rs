//! Settings of the node's API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where it listens, whom it believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// `address`. Default: all.
    pub address: IpAddr,
    /// `port`. Default 10250.
    pub port: u16,
    /// `healthzBindAddress` and `healthzPort`. Default 127.0.0.1:10248; `None`: off.
    pub healthz: Option<SocketAddr>,
    /// `authentication.x509.clientCAFile`: who is certified by it is who its certificate says.
    pub client_ca: Option<PathBuf>,
    /// `authentication.webhook.enabled`: bearer tokens are reviewed by the API server. Default true.
    pub token_review: bool,
    /// `authentication.webhook.cacheTTL`. Default 2 min.
    pub token_ttl: Duration,
    /// `authentication.anonymous.enabled`. Default false.
    pub anonymous: bool,
    /// `authorization`. Default: webhook.
    pub authorization: Authorization,
}

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// `AlwaysAllow`: everybody who is somebody.
    AlwaysAllow,
    /// `Webhook`: the API server is asked.
    Webhook {
        /// `cacheAuthorizedTTL`. Default 5 min.
        allowed_ttl: Duration,
        /// `cacheUnauthorizedTTL`. Default 30 s.
        denied_ttl: Duration,
    },
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 10250,
            healthz: Some((Ipv4Addr::LOCALHOST, 10248).into()),
            client_ca: None,
            token_review: true,
            token_ttl: Duration::from_secs(120),
            anonymous: false,
            authorization: Authorization::default(),
        }
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Self::Webhook { allowed_ttl: Duration::from_secs(300), denied_ttl: Duration::from_secs(30) }
    }
}
