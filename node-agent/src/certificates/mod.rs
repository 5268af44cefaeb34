//! Our certificates: the client's, with which we are the node, and the server's, which the node's API shows.
//!
//! ```text
//!  bootstrap kubeconfig --CSR--> client certificate --> kubeconfig, connections
//!                                      ^    |
//!                                      +----+ at 70 to 90 % of its life
//!  self-signed --CSR, approved by an operator--> serving certificate, swapped while serving
//!                                                      ^    |
//!                                                      +----+ likewise
//! ```
//!
//! A request's name is a digest of its key, and its key is kept on disk until the certificate is there: an agent that
//! restarts waits for the request that it made before, and does not make a second one.

mod bootstrap;
mod files;
mod identity;
mod pair;
mod request;
mod rotation;
mod self_signed;
mod store;

pub use bootstrap::{BootstrapError, Bootstrapped, ensure_client};
pub use files::read_serving;
pub use identity::use_newest;
pub use pair::Pair;
pub use rotation::{keep_client, keep_serving};
pub use self_signed::self_signed;
pub use store::{Store, StoreError};

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

/// Where certificates are kept and come from.
#[derive(Debug, Clone)]
pub struct CertificatesConfig {
    /// Where keys and certificates are kept. Default `<root>/pki`.
    pub dir: PathBuf,
    /// The serving certificate.
    pub serving: ServingSource,
    /// `rotateCertificates`: the client certificate is renewed before it ends. Default yes.
    pub rotate_client: bool,
}

impl CertificatesConfig {
    /// The client's pairs, named as the kubelet names them.
    pub fn client_store(&self) -> Store {
        Store::new(&self.dir, "kubelet-client")
    }

    /// The server's.
    pub fn serving_store(&self) -> Store {
        Store::new(&self.dir, "kubelet-server")
    }
}

/// Renews both until `shutdown`.
pub fn keep(
    config: &crate::AgentConfig,
    ours: &crate::api::ApiConfig,
    api: &crate::api::Api,
    node: &crate::node::OwnNode,
    serving: crate::server::Serving,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (config, ours, api, node) = (config.clone(), ours.clone(), api.clone(), node.clone());
    async move {
        let client = async {
            if config.certificates.rotate_client {
                let (kubeconfig, context) = (&ours.kubeconfig, ours.context.as_deref());
                let store = config.certificates.client_store();
                keep_client(
                    api.client.clone(),
                    api.transport.clone(),
                    kubeconfig,
                    context,
                    store,
                    config.node_name.clone(),
                )
                .await;
            }
        };
        let server = async {
            if config.certificates.serving == ServingSource::Signed {
                let store = config.certificates.serving_store();
                // The API server believes what the Node object says: it must be there first.
                let mut registered = node.watch();
                let _registered = registered.wait_for(Option::is_some).await.is_ok();
                keep_serving(api.client.clone(), serving, store, config.node_name.clone(), node.addresses().to_vec())
                    .await;
            }
        };
        shutdown.run_until_cancelled(Box::pin(async { tokio::join!(client, server) })).await;
    }
}

/// Who certifies the node's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingSource {
    /// We do.
    SelfSigned,
    /// `serverTLSBootstrap`: the cluster, by a CSR that an operator approves; we do until then.
    Signed,
    /// `tlsCertFile` and `tlsPrivateKeyFile`.
    Files {
        /// PEM, the leaf first.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
}

/// No certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Key or certificate cannot be made.
    #[error("making a self-signed serving certificate for {name}")]
    SelfSigned {
        /// The node's name.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A file is missing or no PEM of its kind.
    #[error("reading {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not fit each other, or TLS.
    #[error("using the certificate and its key")]
    Key(#[source] rustls::Error),
}
