//! Objects that pods refer to: ConfigMaps and Secrets (one watch for each, while a pod needs it), Services,
//! RuntimeClasses, tokens.
//!
//! The Node authorizer lets a node read an object only while one of its pods refers to it, and only by name
//! (`fieldSelector=metadata.name=...`). Its graph lags behind the binding: a refusal is tried again within milliseconds.

mod classes;
mod given;
mod of_pod;
mod services;
mod tokens;
mod watched;

pub use classes::{ClassError, RuntimeClasses};
pub use given::Given;
pub use of_pod::{PodObjects, PodTokens};
pub use services::Services;
pub use tokens::{Token, TokenError, Tokens};
pub use watched::{Subscription, Watched};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use tokio::sync::watch;

/// All of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    pub config_maps: Watched<ConfigMap>,
    pub secrets: Watched<Secret>,
    pub services: Services,
    pub tokens: Tokens,
    pub classes: RuntimeClasses,
}

impl Objects {
    /// Nothing is read before somebody asks, except Services, which `Services::keep` follows.
    pub fn new(client: &Client) -> Self {
        Self {
            config_maps: Watched::new(client.clone(), "configmap"),
            secrets: Watched::new(client.clone(), "secret"),
            services: Services::new(),
            tokens: Tokens::new(Some(client.clone())),
            classes: RuntimeClasses::new(Some(client.clone())),
        }
    }

    /// Without an API server: what manifests give, no Services, no tokens.
    pub fn alone(given: watch::Receiver<Given>) -> Self {
        Self {
            config_maps: Watched::given(given.clone(), "configmap", |given| &given.config_maps),
            secrets: Watched::given(given, "secret", |given| &given.secrets),
            services: Services::none(),
            tokens: Tokens::new(None),
            classes: RuntimeClasses::new(None),
        }
    }
}
