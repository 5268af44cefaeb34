//! Our certificates: the client's, with which we are the node, and the server's, which the node's API shows.

mod files;
mod self_signed;

pub use files::read_serving;
pub use self_signed::self_signed;

use std::path::PathBuf;

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
