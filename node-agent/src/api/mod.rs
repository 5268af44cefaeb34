//! The API server, seen from a node: one HTTP/2 connection under the node's own identity.

use std::path::PathBuf;

/// Where the API server is and who we are.
#[derive(Debug, Clone, Default)]
pub struct ApiConfig {
    /// Kubeconfig of the node itself.
    pub kubeconfig: PathBuf,
    /// Context in it; `None` is its `current-context`.
    pub context: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The file cannot be read or is not a kubeconfig.
    #[error("kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
}

/// A client for the life of the agent: reconnecting and swapping certificates happens below it.
pub fn connect(_config: &ApiConfig) -> Result<kube::Client, ApiError> {
    todo!("the next commit")
}
