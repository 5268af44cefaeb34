//! Which objects a pod reads: for watches, and for what has to be there before its containers start.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, ServiceAccountTokenProjection, Volume};

/// The objects of a pod's namespace that it reads, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    /// Of volumes and environment.
    pub secrets: BTreeSet<String>,
    pub image_pull_secrets: BTreeSet<String>,
    pub persistent_volume_claims: BTreeSet<String>,
}

/// A service-account token that a projected volume holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    /// Empty: the API server's default.
    pub audience: String,
    pub expiration_seconds: i64,
}

impl TokenRequest {
    pub(super) fn of(source: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: source.audience.clone().unwrap_or_default(),
            expiration_seconds: source.expiration_seconds.unwrap_or(3600),
        }
    }
}

/// Optional ones too: they are used if they are there.
pub fn references(pod: &Pod) -> References {
    let mut references = References::default();
    let Some(spec) = &pod.spec else { return references };
    for volume in spec.volumes.iter().flatten() {
        references.volume(volume);
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        references.container(container);
    }
    for secret in spec.image_pull_secrets.iter().flatten() {
        insert(&mut references.image_pull_secrets, &secret.name);
    }
    references
}

/// Tokens to request, with the volume's name for messages; each request once a volume.
pub fn token_requests(pod: &Pod) -> Vec<(String, TokenRequest)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut requests: Vec<_> = volumes
        .flat_map(|volume| {
            let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
            let tokens = sources.filter_map(|source| source.service_account_token.as_ref());
            tokens.map(|token| (volume.name.clone(), TokenRequest::of(token)))
        })
        .collect();
    requests.sort();
    requests.dedup();
    requests
}

/// Where tokens are written: volume, path in it, and what the token is.
pub fn token_files(pod: &Pod) -> Vec<(&Volume, &str, TokenRequest)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let files = volumes.flat_map(|volume| {
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let tokens = sources.filter_map(|source| source.service_account_token.as_ref());
        tokens.map(move |token| (volume, token.path.as_str(), TokenRequest::of(token)))
    });
    files.collect()
}

impl References {
    fn volume(&mut self, volume: &Volume) {
        if let Some(source) = &volume.config_map {
            insert(&mut self.config_maps, &source.name);
        }
        if let Some(name) = volume.secret.as_ref().and_then(|source| source.secret_name.as_ref()) {
            insert(&mut self.secrets, name);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            insert(&mut self.persistent_volume_claims, &claim.claim_name);
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                insert(&mut self.config_maps, &source.name);
            }
            if let Some(source) = &source.secret {
                insert(&mut self.secrets, &source.name);
            }
        }
    }

    fn container(&mut self, container: &Container) {
        for from in container.env_from.iter().flatten() {
            if let Some(source) = &from.config_map_ref {
                insert(&mut self.config_maps, &source.name);
            }
            if let Some(source) = &from.secret_ref {
                insert(&mut self.secrets, &source.name);
            }
        }
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            if let Some(source) = &source.config_map_key_ref {
                insert(&mut self.config_maps, &source.name);
            }
            if let Some(source) = &source.secret_key_ref {
                insert(&mut self.secrets, &source.name);
            }
        }
    }
}

fn insert(names: &mut BTreeSet<String>, name: &str) {
    if !name.is_empty() {
        names.insert(name.to_owned());
    }
}
