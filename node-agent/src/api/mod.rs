//! The API server, seen from a node: HTTP/2 under the node's own identity.
//!
//! # Guarantees
//! - One [`kube::Client`] serves the agent's whole life: reconnecting and changing the certificate happen below it.
//! - Requests share one connection until its streams are used up (the server grants 100 by default, and every watch
//!   holds one for minutes); then another is opened, so that a watch never keeps a lease from being renewed.
//! - A request that did not reach the server is sent again by the transport; any other failure is the caller's to judge.

mod kubeconfig;
mod link;
mod transport;

use std::path::PathBuf;

pub use kubeconfig::{KubeconfigError, load};
pub use transport::{Transport, TransportError};

use kube::client::ConfigExt as _;
use tower::Layer as _;

/// Where the API server is and who we are.
#[derive(Debug, Clone, Default)]
pub struct ApiConfig {
    /// Kubeconfig of the node itself; written by the bootstrap if [`bootstrap_kubeconfig`](Self::bootstrap_kubeconfig) is given.
    pub kubeconfig: PathBuf,
    /// Kubeconfig with which to ask for a client certificate when [`kubeconfig`](Self::kubeconfig) does not exist yet.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Context in either; `None` is its `current-context`.
    pub context: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig is missing or wrong.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The client's certificate, key, CA, token or headers cannot be used.
    #[error("setting up the connection to {server}")]
    Identity {
        /// The API server's address.
        server: String,
        /// What does not fit.
        source: Box<kube::Error>,
    },
    /// The server's address is not one we can speak to.
    #[error("connecting to {server}")]
    Server {
        /// The API server's address.
        server: String,
        /// What is wrong with it.
        source: TransportError,
    },
}

/// The API server and the way to it.
#[derive(Clone)]
pub struct Api {
    /// For all requests, whatever happens to the connection.
    pub client: kube::Client,
    /// The connections below, for whoever renews the certificate.
    pub transport: Transport,
    /// The API server's URL, for messages.
    pub server: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Makes the client that a kubeconfig describes. Opens no connection yet.
pub fn connect(config: &kube::Config) -> Result<Api, ApiError> {
    let server = config.cluster_url.to_string();
    let identity = |source| ApiError::Identity { server: server.clone(), source: Box::new(source) };

    let tls = config.rustls_client_config().map_err(identity)?;
    let transport = Transport::new(&config.cluster_url, config.tls_server_name.as_deref(), tls)
        .map_err(|source| ApiError::Server { server: server.clone(), source })?;

    let service = config.extra_headers_layer().map_err(identity)?.layer(transport.clone());
    let service = config.base_uri_layer().layer(service);
    let client = match config.auth_layer().map_err(identity)? {
        Some(auth) => kube::Client::new(auth.layer(service), config.default_namespace.clone()),
        None => kube::Client::new(service, config.default_namespace.clone()),
    };
    Ok(Api { client, transport, server })
}
