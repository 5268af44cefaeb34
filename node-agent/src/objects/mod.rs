//! Objects that pods refer to: ConfigMaps and Secrets (one watch for each, while a pod needs it), Services, tokens.
//!
//! The Node authorizer lets a node read an object only while one of its pods refers to it, and only by name
//! (`fieldSelector=metadata.name=...`). Its graph lags behind the binding: a refusal is tried again within milliseconds.

mod of_pod;
mod services;
mod tokens;
mod watched;

pub use of_pod::PodObjects;
pub use services::Services;
pub use tokens::{Token, TokenError, Tokens};
pub use watched::{Subscription, Watched};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;

/// All of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    pub config_maps: Watched<ConfigMap>,
    pub secrets: Watched<Secret>,
    pub services: Services,
    pub tokens: Tokens,
}

impl Objects {
    /// Nothing is read before somebody asks, except Services, which `Services::keep` follows.
    pub fn new(client: &Client) -> Self {
        Self {
            config_maps: Watched::new(client.clone(), "configmap"),
            secrets: Watched::new(client.clone(), "secret"),
            services: Services::new(),
            tokens: Tokens::new(client.clone()),
        }
    }
}
