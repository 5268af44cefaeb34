//! What configMap, secret, downwardAPI and projected volumes hold (Kubernetes:
//! `pkg/volume/{configmap,secret,downwardapi,projected}`, `volume/util/atomic_writer.go` for paths).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Volume};

use crate::fields::{self, Addresses, FieldError};
use crate::objects::{FetchError, Objects};
use crate::resources::ResourceList;

mod paths;
mod references;

pub use references::{References, TokenRequest, references, token_files, token_requests};

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Relative path (no `..`, no leading slash) to file. No path is a directory of another.
pub type Files = BTreeMap<String, File>;

/// What volumes refer to, beside the pod itself.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    pub objects: &'a Objects,
    /// Primary first.
    pub host_ips: &'a [IpAddr],
    /// Primary first.
    pub pod_ips: &'a [IpAddr],
    /// The node's allocatable.
    pub allocatable: &'a ResourceList,
    /// A token for each of [`token_requests`].
    pub tokens: &'a BTreeMap<TokenRequest, String>,
}

/// The volume cannot be made: an event [`crate::events::failed_mount`] with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("configmap references non-existent config key: {0}")]
    NoConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    NoSecretKey(String),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("invalid path: {why}: {path}")]
    Path { path: String, why: &'static str },
    #[error("no token for audience {audience:?} was requested")]
    NoToken { audience: String },
    #[error("projected source {0} cannot be honoured by this node")]
    Unsupported(&'static str),
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<VolumeError>),
}

const DEFAULT_MODE: i32 = 0o644;

/// Whether [`project`] makes this volume.
pub fn is_projection(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// The files of one volume; none for a volume that is no projection.
pub fn project(pod: &Pod, volume: &Volume, sources: &Sources<'_>) -> Result<Files, VolumeError> {
    let files = if let Some(source) = &volume.config_map {
        let keys = Keys::new(source.items.as_deref(), source.default_mode, source.optional);
        config_map(&source.name, &keys, sources)?
    } else if let Some(source) = &volume.secret {
        let keys = Keys::new(source.items.as_deref(), source.default_mode, source.optional);
        secret(source.secret_name.as_deref().unwrap_or_default(), &keys, sources)?
    } else if let Some(source) = &volume.downward_api {
        downward_api(pod, source.items.as_deref(), source.default_mode, sources)?
    } else if let Some(source) = &volume.projected {
        projected(pod, source, sources)?
    } else {
        Files::new()
    };
    paths::check(files)
}

/// Which keys of an object become which files.
struct Keys<'a> {
    items: &'a [KeyToPath],
    default_mode: i32,
    optional: bool,
}

impl<'a> Keys<'a> {
    fn new(items: Option<&'a [KeyToPath]>, default_mode: Option<i32>, optional: Option<bool>) -> Self {
        Self {
            items: items.unwrap_or_default(),
            default_mode: default_mode.unwrap_or(DEFAULT_MODE),
            optional: optional == Some(true),
        }
    }

    /// All keys by their names, or the items by their paths.
    fn files(
        &self,
        data: &BTreeMap<String, Vec<u8>>,
        missing: fn(String) -> VolumeError,
    ) -> Result<Files, VolumeError> {
        if self.items.is_empty() {
            return Ok(data.iter().map(|(key, bytes)| (key.clone(), file(bytes.clone(), self.default_mode))).collect());
        }
        let mut files = Files::new();
        for item in self.items {
            match data.get(&item.key) {
                Some(bytes) => {
                    let mode = item.mode.unwrap_or(self.default_mode);
                    files.insert(item.path.clone(), file(bytes.clone(), mode));
                }
                None if self.optional => {}
                None => return Err(missing(item.key.clone())),
            }
        }
        Ok(files)
    }
}

fn file(bytes: Vec<u8>, mode: i32) -> File {
    File { bytes, mode: mode as u32 & 0o7777 }
}

fn config_map(name: &str, keys: &Keys<'_>, sources: &Sources<'_>) -> Result<Files, VolumeError> {
    let mut data = BTreeMap::new();
    match sources.objects.config_map(name) {
        Ok(map) => {
            data.extend(binary(map.binary_data.as_ref()));
            data.extend(map.data.iter().flatten().map(|(key, text)| (key.clone(), text.clone().into_bytes())));
        }
        Err(FetchError::NotFound { .. }) if keys.optional => {}
        Err(error) => return Err(error.into()),
    }
    keys.files(&data, VolumeError::NoConfigKey)
}

fn secret(name: &str, keys: &Keys<'_>, sources: &Sources<'_>) -> Result<Files, VolumeError> {
    let data = match sources.objects.secret(name) {
        Ok(secret) => binary(secret.data.as_ref()).collect(),
        Err(FetchError::NotFound { .. }) if keys.optional => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    keys.files(&data, VolumeError::NoSecretKey)
}

fn binary(data: Option<&BTreeMap<String, ByteString>>) -> impl Iterator<Item = (String, Vec<u8>)> {
    data.into_iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()))
}

fn downward_api(
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
    sources: &Sources<'_>,
) -> Result<Files, VolumeError> {
    let addresses = Addresses { pod_ips: sources.pod_ips, host_ips: sources.host_ips };
    let mut files = Files::new();
    let mut errors = Vec::new();
    for item in items.unwrap_or_default() {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => fields::field(field, pod, addresses),
            (None, Some(resource)) => fields::resource(resource, pod, None, sources.allocatable),
            (None, None) => Ok(String::new()),
        };
        match value {
            Ok(text) => {
                let mode = item.mode.or(default_mode).unwrap_or(DEFAULT_MODE);
                files.insert(item.path.clone(), file(text.into_bytes(), mode));
            }
            Err(error) => errors.push(error.into()),
        }
    }
    one_error(errors).map_or(Ok(files), Err)
}

/// Later sources win over earlier ones; all errors are told.
fn projected(pod: &Pod, source: &ProjectedVolumeSource, sources: &Sources<'_>) -> Result<Files, VolumeError> {
    let default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut files = Files::new();
    let mut errors = Vec::new();
    for part in source.sources.iter().flatten() {
        let part_files = if let Some(part) = &part.secret {
            let keys = Keys::new(part.items.as_deref(), Some(default_mode), part.optional);
            secret(&part.name, &keys, sources)
        } else if let Some(part) = &part.config_map {
            let keys = Keys::new(part.items.as_deref(), Some(default_mode), part.optional);
            config_map(&part.name, &keys, sources)
        } else if let Some(part) = &part.downward_api {
            downward_api(pod, part.items.as_deref(), Some(default_mode), sources)
        } else if let Some(part) = &part.service_account_token {
            let request = TokenRequest::of(part);
            token(pod, &request, default_mode, sources).map(|file| Files::from([(part.path.clone(), file)]))
        } else if part.cluster_trust_bundle.is_some() {
            Err(VolumeError::Unsupported("clusterTrustBundle"))
        } else if part.pod_certificate.is_some() {
            Err(VolumeError::Unsupported("podCertificate"))
        } else {
            Ok(Files::new())
        };
        match part_files {
            Ok(part_files) => files.extend(part_files),
            Err(error) => errors.push(error),
        }
    }
    one_error(errors).map_or(Ok(files), Err)
}

/// A token is for its owner and the pod's group only, where the pod has one (the group's bits come with the ownership).
fn token(pod: &Pod, request: &TokenRequest, mode: i32, sources: &Sources<'_>) -> Result<File, VolumeError> {
    let token = sources.tokens.get(request);
    let token = token.ok_or_else(|| VolumeError::NoToken { audience: request.audience.clone() })?;
    let group = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
    Ok(file(token.clone().into_bytes(), if group.is_some() { 0o600 } else { mode }))
}

fn one_error(mut errors: Vec<VolumeError>) -> Option<VolumeError> {
    match errors.len() {
        0 | 1 => errors.pop(),
        _ => Some(VolumeError::Several(errors)),
    }
}

#[cfg(test)]
mod tests;
