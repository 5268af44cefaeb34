//! The OCI runtime spec of one attempt (kubelet: `kuberuntime_container.go` `generateContainerConfig`; containerd's CRI).

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::Spec;

use super::pod::ContainerKind;
use crate::env::Environment;

/// Everything that becomes the spec.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub kind: ContainerKind,
    pub attempt: u32,
    pub image: &'a ImageConfig,
    pub environment: &'a Environment,
    /// Volumes and files, in the order in which they are mounted.
    pub mounts: &'a [MountPoint],
    pub network: &'a PodNetwork,
    /// As the front takes it: `/samara/pod<uid>/<container id>`.
    pub cgroups_path: &'a str,
    /// Bytes of memory the node has; for `oom_score_adj`.
    pub node_memory: i64,
}

/// What the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    pub working_dir: String,
    /// `user`, `uid`, `uid:gid`, or empty.
    pub user: String,
    /// For an image that is only a module: its file on the host and the digest.
    pub module: Option<Module>,
}

/// The wasm of an image without a root file system, or the wasm found in its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// `None`: found in the root by `args[0]`.
    pub path: Option<PathBuf>,
    /// `sha256:...`.
    pub digest: String,
}

/// A directory or file of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub read_only: bool,
}

/// The pod's place on the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodNetwork {
    /// `/proc/..` or `/run/netns/..`; `None`: the host's.
    pub namespace: Option<PathBuf>,
    /// Primary first.
    pub pod_ips: Vec<std::net::IpAddr>,
    pub loopback: Option<std::net::IpAddr>,
    pub hostname: String,
    pub dns_servers: Vec<String>,
    pub dns_searches: Vec<String>,
    pub dns_options: Vec<String>,
}

/// The container waits with `CreateContainerConfigError` and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error(
        "container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})"
    )]
    RunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    NonNumericUser {
        user: String,
        pod: String,
        container: String,
    },
    #[error("{0}")]
    Resources(String),
    #[error("{0}")]
    Unsupported(String),
}

/// The spec, annotations included.
pub fn spec(request: &Request<'_>) -> Result<Spec, SpecError> {
    let _ = request;
    todo!("session 1")
}

/// Changes when, and only when, a running container has to be made anew for its spec: its name or image changed.
pub fn spec_hash(container: &Container) -> String {
    let _ = container;
    todo!("session 1")
}
