//! All that a node itself knows.

use std::path::PathBuf;

use super::{Account, DockerConfig, Plugins};
use crate::reference::Reference;
use crate::registry::Credential;

/// All that a node itself knows: docker's files, read for each image so that a change counts at once, then plugins.
#[derive(Debug, Default)]
pub struct NodeCredentials {
    /// Docker configurations, in the order in which they are tried.
    pub docker: Vec<PathBuf>,
    /// The kubelet's plugins.
    pub plugins: Plugins,
}

/// Who may use what a credential of the node opens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Every pod of the node.
    Node,
    /// Pods of the service account for whose token a plugin gave it.
    ServiceAccount {
        /// The account's UID.
        uid: String,
    },
}

impl NodeCredentials {
    /// What fits an image. What cannot be read or run is told of and passed over: the pull may do without.
    pub async fn lookup(&self, image: &Reference, account: Option<&dyn Account>) -> Vec<(Credential, Owner)> {
        let mut found: Vec<(Credential, Owner)> = Vec::new();
        for path in &self.docker {
            let config = match DockerConfig::read(path) {
                Ok(config) => config,
                Err(error) => {
                    tracing::warn!(%error, "docker configuration is passed over");
                    continue;
                }
            };
            let helped = config.helped(image).await.unwrap_or_else(|error| {
                tracing::warn!(%image, %error, "credential helper failed");
                None
            });
            found.extend(helped.into_iter().chain(config.held(image)).map(|credential| (credential, Owner::Node)));
        }
        found.extend(self.plugins.lookup(image, account).await);
        let mut seen = std::collections::HashSet::new();
        found.retain(|(credential, _)| seen.insert(credential.clone()));
        found
    }
}
