//! The agent's whole configuration: one struct per component, each beside its component.

mod configz;
pub(crate) mod merge;

pub use configz::configz;

use std::io;
use std::path::PathBuf;

use crate::api::ApiConfig;
use crate::certificates::CertificatesConfig;
use crate::node::NodeConfig;
use crate::pods::{Manifests, PodsConfig};
use crate::server::ServerConfig;

/// Everything that is decided before the agent starts.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of the Node object; `spec.nodeName` of our pods.
    pub node_name: String,
    /// What survives a reboot: images, code, keys, volumes. Default `/var/lib/samara`.
    pub root_dir: PathBuf,
    /// Images and compiled code: those of the command line too, where it has the same root. Default: `root_dir`.
    pub store_dir: PathBuf,
    /// What does not: fronts, bundles. Default `/run/samara`.
    pub run_dir: PathBuf,
    /// Containers' log files. Default `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// Symlinks to them, for log collectors. Default `/var/log/containers`.
    pub container_logs_dir: PathBuf,
    /// How to reach the API server; `None`: there is none, and the node stands alone.
    pub api: Option<ApiConfig>,
    /// Manifests of static pods.
    pub manifests: Option<Manifests>,
    /// Who we are to others.
    pub certificates: CertificatesConfig,
    /// What our Node object says.
    pub node: NodeConfig,
    /// The node's own API.
    pub server: ServerConfig,
    /// Its pods.
    pub pods: PodsConfig,
    /// Where each pod's start is traced to ([`crate::starts`]). Default: nowhere.
    pub trace_starts: Option<PathBuf>,
}

/// The agent does not start with this.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A value is wrong.
    #[error("{}: {field}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Path of the field, such as `authentication.webhook.cacheTTL`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host's name is no Node's.
    #[error("{name:?} cannot be a Node's name (lower-case letters, digits, '-' and '.'): set --node-name")]
    NodeName {
        /// `--node-name`, or the host's.
        name: String,
    },
}
