//! What configMap, secret, downwardAPI and projected volumes hold (Kubernetes: `pkg/volume/{configmap,secret,downwardapi,projected}`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::objects::{FetchError, Objects};
use crate::resources::ResourceList;

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Relative path (no `..`, no leading slash) to file.
pub type Files = BTreeMap<String, File>;

/// What volumes refer to, beside the pod itself.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    pub objects: &'a Objects,
    pub host_ips: &'a [IpAddr],
    pub pod_ips: &'a [IpAddr],
    /// The node's allocatable.
    pub allocatable: &'a ResourceList,
    /// A token for each of [`token_requests`].
    pub tokens: &'a BTreeMap<TokenRequest, String>,
}

/// A service-account token that a projected volume holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    /// Empty: the API server's default.
    pub audience: String,
    pub expiration_seconds: i64,
}

/// The volume cannot be made: a `FailedMount` event with `MountVolume.SetUp failed for volume "v" : ` and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("references non-existent config key: {0}")]
    NoConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    NoSecretKey(String),
    #[error("{0}")]
    Other(String),
}

/// The objects of a pod's namespace that it reads, by name. `true`: somewhere it is not optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    /// Volumes, environment and image pull secrets.
    pub secrets: BTreeSet<String>,
    pub image_pull_secrets: BTreeSet<String>,
    pub persistent_volume_claims: BTreeSet<String>,
}

/// For watches: what has to be known before the pod's containers can start.
pub fn references(pod: &Pod) -> References {
    let _ = pod;
    todo!("session 1")
}

/// Tokens to request, with the volume's name for messages.
pub fn token_requests(pod: &Pod) -> Vec<(String, TokenRequest)> {
    let _ = pod;
    todo!("session 1")
}

/// Whether [`project`] makes this volume.
pub fn is_projection(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// The files of one volume.
pub fn project(pod: &Pod, volume: &Volume, sources: &Sources<'_>) -> Result<Files, VolumeError> {
    let _ = (pod, volume, sources);
    todo!("session 1")
}
