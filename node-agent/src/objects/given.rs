//! ConfigMaps and Secrets that manifests hold, for a node without an API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// By namespace and name.
pub(super) type Named<K> = BTreeMap<(String, String), Arc<K>>;

/// All of them, as they are now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    pub config_maps: Named<ConfigMap>,
    pub secrets: Named<Secret>,
}

impl Given {
    /// Of two with one name the later one counts.
    pub fn add_config_map(&mut self, map: ConfigMap) {
        self.config_maps.insert(name(&map.metadata), Arc::new(map));
    }

    /// Of two with one name the later one counts.
    pub fn add_secret(&mut self, secret: Secret) {
        self.secrets.insert(name(&secret.metadata), Arc::new(secret));
    }
}

fn name(meta: &ObjectMeta) -> (String, String) {
    let namespace = meta.namespace.clone().filter(|namespace| !namespace.is_empty());
    (namespace.unwrap_or_else(|| "default".to_owned()), meta.name.clone().unwrap_or_default())
}
