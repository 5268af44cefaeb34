//! What can be set about pods.

use std::path::PathBuf;
use std::time::Duration;

use samara_core::backoff::{self, Backoff};
use samara_core::pull::access::VerificationPolicy;
use samara_core::pull::gc::ImageGcPolicy;
use samara_images::{NodeCredentials, PluginConfigError, Plugins, PullerConfig};

use crate::events::RATE;
use crate::images::{CompileLimits, PullLimits};
use crate::network::{ClusterDns, Mode};
use crate::pace::Rate;

/// Settings of this node's pods.
#[derive(Debug, Clone)]
pub struct PodsConfig {
    /// `clusterDNS` and `clusterDomain`.
    pub dns: ClusterDns,
    /// How pods have addresses. Default: of the Node's range.
    pub network: Mode,
    /// `resolvConf`: what pods with the host's name service get. Default `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `containerLogMaxSize` in bytes. Default 10 MiB.
    pub log_max_size: u64,
    /// `containerLogMaxFiles`. Default 5, at least 2.
    pub log_max_files: u32,
    /// Pods in one front at most. Default 32.
    pub pods_per_front: usize,
    /// A pod that becomes ready within this time of its arrival is told of once. Default 50 ms.
    pub status_hold: Duration,
    /// `crashLoopBackOff.maxContainerRestartPeriod`. Default 10 s to 300 s.
    pub restart_backoff: Backoff,
    /// `eventRecordQPS` and `eventBurst`. Default 50 and 100.
    pub events: Rate,
    /// How many images are pulled at once, and how often.
    pub pulls: PullLimits,
    /// How images are pulled.
    pub images: PullerConfig,
    /// What one compilation may use.
    pub compile: CompileLimits,
    /// What the node itself shows to registries.
    pub credentials: CredentialsConfig,
    /// `imagePullCredentialsVerificationPolicy`: who may use what is here already. Default: what pods pulled is checked.
    pub verification: VerificationPolicy,
    /// Which images go, and when.
    pub image_gc: ImageGcPolicy,
    /// Cgroup under which pods' cgroups are made. Default `/samara`.
    pub cgroup_root: String,
}

/// What the node itself shows to registries, beside the pods' own secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialsConfig {
    /// Docker configurations, in the order in which they are tried. Those that are not there are passed over.
    pub docker: Vec<PathBuf>,
    /// The kubelet's credential plugins: their configuration, and the directory of their programs. Default none.
    pub plugins: Option<(PathBuf, PathBuf)>,
}

impl CredentialsConfig {
    /// Reads the plugins' configuration and looks for their programs.
    pub(super) fn open(&self) -> Result<NodeCredentials, PluginConfigError> {
        let plugins = match &self.plugins {
            Some((config, directory)) => Plugins::read(config, directory)?,
            None => Plugins::default(),
        };
        Ok(NodeCredentials { docker: self.docker.clone(), plugins })
    }
}

impl Default for PodsConfig {
    fn default() -> Self {
        Self {
            dns: ClusterDns { servers: Vec::new(), domain: "cluster.local".to_owned() },
            network: Mode::default(),
            resolv_conf: "/etc/resolv.conf".into(),
            log_max_size: 10 << 20,
            log_max_files: 5,
            pods_per_front: 32,
            status_hold: Duration::from_millis(50),
            restart_backoff: backoff::KUBELET,
            events: RATE,
            pulls: PullLimits::default(),
            images: PullerConfig::default(),
            compile: CompileLimits::default(),
            credentials: CredentialsConfig::default(),
            verification: VerificationPolicy::default(),
            image_gc: ImageGcPolicy::default(),
            cgroup_root: "/samara".to_owned(),
        }
    }
}
