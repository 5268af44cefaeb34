//! The environment of a container, and `$(VAR)` in its command (kubelet: `kubelet_pods.go` `makeEnvironmentVariables`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::objects::{FetchError, Objects};
use crate::resources::ResourceList;

/// What variables refer to, beside the pod itself.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    pub objects: &'a Objects,
    /// Primary first.
    pub pod_ips: &'a [IpAddr],
    /// Primary first.
    pub host_ips: &'a [IpAddr],
    /// The node's allocatable: `limits.cpu` of a container without a limit.
    pub allocatable: &'a ResourceList,
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names are unique; sorted by name.
    pub variables: Vec<(String, String)>,
    /// Messages of `InvalidEnvironmentVariableNames` events: keys of `envFrom` objects that were skipped.
    pub skipped: Vec<String>,
}

/// A variable that cannot be had: the container waits with `CreateContainerConfigError` and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey {
        key: String,
        namespace: String,
        name: String,
    },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey {
        key: String,
        namespace: String,
        name: String,
    },
    #[error("{0}")]
    Field(String),
}

/// `envFrom`, then `env` in order with `$(VAR)` expanded against what came before and the services.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources<'_>,
) -> Result<Environment, EnvError> {
    let _ = (pod, container, sources);
    todo!("session 1")
}

/// `$(VAR)` becomes the variable's value, `$$` becomes `$`, and what names no known variable stays as it is.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let _ = (text, variables);
    todo!("session 1")
}
