//! ConfigMaps, Secrets and Services of a pod's namespace, as values: what environment and volumes are made from.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};

/// What a fetch gave.
pub type Fetched<T> = Result<Arc<T>, FetchError>;

/// Why an object is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It does not exist; an `optional` reference does without.
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    /// Anything else: also fails an optional reference.
    #[error("{0}")]
    Failed(String),
}

/// Objects by name, all of the pod's namespace. A name that is not here does not exist.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    pub config_maps: BTreeMap<String, Fetched<ConfigMap>>,
    pub secrets: BTreeMap<String, Fetched<Secret>>,
    /// Of the pod's namespace, and `kubernetes` of namespace `default`.
    pub services: Vec<Arc<Service>>,
}

impl Objects {
    /// By name.
    pub fn config_map(&self, name: &str) -> Fetched<ConfigMap> {
        self.config_maps
            .get(name)
            .cloned()
            .unwrap_or_else(|| Err(FetchError::NotFound { kind: "configmap", name: name.to_owned() }))
    }

    /// By name.
    pub fn secret(&self, name: &str) -> Fetched<Secret> {
        self.secrets
            .get(name)
            .cloned()
            .unwrap_or_else(|| Err(FetchError::NotFound { kind: "secret", name: name.to_owned() }))
    }
}
