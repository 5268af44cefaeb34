//! The agent's whole configuration: one struct per component, each beside its component.

use std::path::PathBuf;

use crate::{api::ApiConfig, node::NodeConfig};

/// Everything that is decided before the agent starts. Made by the `args` module from flags and the `KubeletConfiguration` file.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of the Node object; `spec.nodeName` of our pods.
    pub node_name: String,
    /// What survives a reboot: images, code, keys, volumes. Default `/var/lib/samara`.
    pub root_dir: PathBuf,
    /// What does not: fronts, bundles. Default `/run/samara`.
    pub run_dir: PathBuf,
    /// Containers' log files. Default `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// Symlinks to them, for log collectors. Default `/var/log/containers`.
    pub container_logs_dir: PathBuf,
    /// How to reach the API server.
    pub api: ApiConfig,
    /// What our Node object says.
    pub node: NodeConfig,
}
