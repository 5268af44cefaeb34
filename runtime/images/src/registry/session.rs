//! One repository, with one credential, for one purpose.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use oci_client::client::{
    AsLayerDescriptor, Certificate, CertificateEncoding, ClientConfig, ClientProtocol, LayerDescriptor,
};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};

use super::{Credential, RegistryConfig, RegistryError, RegistryFailure};
use crate::digest::Digest;
use crate::media_type;
use crate::reference::Reference;

/// So many clients are kept, with their connections and tokens; one more, and all are made anew.
const MOST_CLIENTS: usize = 64;

/// What a session is for: it decides the rights that are asked of a token service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Pull,
    Push,
}

impl Purpose {
    fn operation(self) -> RegistryOperation {
        match self {
            Self::Pull => RegistryOperation::Pull,
            Self::Push => RegistryOperation::Push,
        }
    }
}

/// Clients by registry and credential: a client keeps one credential per registry and never lets go of it.
#[derive(Default)]
pub(crate) struct Sessions {
    config: RegistryConfig,
    clients: Mutex<HashMap<(String, Credential), Client>>,
}

/// One repository, with one credential, for one purpose.
pub(crate) struct Session {
    client: Client,
    repository: oci_client::Reference,
    auth: RegistryAuth,
    purpose: Purpose,
}

/// A blob's bytes from where the registry begins.
pub(crate) struct BlobBody {
    /// Where in the blob the first byte is: what was asked for, or 0 if the registry knows no ranges.
    pub(crate) offset: u64,
    pub(crate) bytes: BoxStream<'static, Result<Bytes, RegistryFailure>>,
}

impl Sessions {
    pub(crate) fn new(config: RegistryConfig) -> Self {
        Self { config, clients: Mutex::default() }
    }

    /// Begins a session; nothing is sent yet.
    pub(crate) async fn open(
        &self,
        reference: &Reference,
        credential: &Credential,
        purpose: Purpose,
    ) -> Result<Session, RegistryError> {
        let registry = reference.host().to_owned();
        let client = self.client(&registry, credential)?;
        let auth = match credential {
            Credential::Anonymous => RegistryAuth::Anonymous,
            Credential::Basic { username, password } => RegistryAuth::Basic(username.clone(), password.clone()),
            Credential::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        };
        client.store_auth_if_needed(&registry, &auth).await;
        let tag = reference.tag().unwrap_or("latest").to_owned();
        let repository = oci_client::Reference::with_tag(registry, reference.repository().to_owned(), tag);
        Ok(Session { client, repository, auth, purpose })
    }

    /// Forgets what a client knows, for when a token it holds was refused.
    pub(crate) fn forget(&self, reference: &Reference, credential: &Credential) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&(reference.host().to_owned(), credential.clone()));
    }

    fn client(&self, registry: &str, credential: &Credential) -> Result<Client, RegistryError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (registry.to_owned(), credential.clone());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let authorities = self.config.authorities.iter();
        let config = ClientConfig {
            protocol: match self.config.is_plain(registry) {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            extra_root_certificates: authorities
                .map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() })
                .collect(),
            connect_timeout: Some(self.config.connect_timeout),
            read_timeout: Some(self.config.read_timeout),
            use_monolithic_push: true,
            platform_resolver: None,
            user_agent: concat!("samara/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| RegistryError {
            registry: registry.to_owned(),
            failure: RegistryFailure::from_client(error),
        })?;
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

impl Session {
    /// Names the registry in a failure.
    pub(crate) fn failed(&self, failure: RegistryFailure) -> RegistryError {
        RegistryError { registry: self.repository.resolve_registry().to_owned(), failure }
    }

    fn refused(&self, error: OciDistributionError) -> RegistryError {
        self.failed(RegistryFailure::from_client(error))
    }

    /// A manifest or index by tag or digest, checked against the digest if there is one, with the digest of its bytes.
    pub(crate) async fn manifest(
        &self,
        tag: Option<&str>,
        digest: Option<&Digest>,
    ) -> Result<(Bytes, Digest), RegistryError> {
        let (registry, path) = (self.repository.registry().to_owned(), self.repository.repository().to_owned());
        let reference = match (digest, tag) {
            (Some(digest), _) => oci_client::Reference::with_digest(registry, path, digest.to_string()),
            (None, tag) => oci_client::Reference::with_tag(registry, path, tag.unwrap_or("latest").to_owned()),
        };
        let answer = self.client.pull_manifest_raw(&reference, &self.auth, media_type::MANIFESTS).await;
        let (bytes, _) = match answer {
            Ok(answer) => answer,
            Err(error @ OciDistributionError::UnauthorizedError { .. }) => {
                return Err(self.why_unauthorized(error).await);
            }
            Err(error) => return Err(self.refused(error)),
        };
        let digest = match digest {
            Some(digest) => digest.clone(),
            None => Digest::of(&bytes),
        };
        let mut hasher = digest.hasher();
        hasher.update(&bytes);
        let actual = hasher.finish();
        match actual == digest {
            true => Ok((bytes, digest)),
            false => Err(self.failed(RegistryFailure::Digest(format!("{actual} and not {digest}")))),
        }
    }

    /// A blob from an offset on. Not checked: the writer does that.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<BlobBody, RegistryError> {
        use oci_client::client::BlobResponse;
        let answer = self.client.pull_blob_stream_partial(&self.repository, Named(digest), offset, None).await;
        let (offset, stream) = match answer.map_err(|error| self.refused(error))? {
            BlobResponse::Full(stream) => (0, stream),
            BlobResponse::Partial(stream) => (offset, stream),
        };
        let bytes = stream.stream.map_err(|error| RegistryFailure::from_stream(&error)).boxed();
        Ok(BlobBody { offset, bytes })
    }

    /// Whether the repository has a blob already.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let exists = self.client.blob_exists(&self.repository, digest.as_str()).await;
        exists.map_err(|error| self.refused(error))
    }

    /// Sends a blob of known length.
    pub(crate) async fn push_blob(
        &self,
        digest: &Digest,
        size: u64,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), RegistryError> {
        let bytes = bytes.map_err(OciDistributionError::from);
        let pushed = self.client.push_blob_stream(&self.repository, bytes, digest.as_str(), Some(size)).await;
        pushed.map(drop).map_err(|error| self.refused(error))
    }

    /// Sends a manifest under the session's tag.
    pub(crate) async fn push_manifest(&self, bytes: Bytes, media_type: &'static str) -> Result<(), RegistryError> {
        let media_type = http::HeaderValue::from_static(media_type);
        let pushed = self.client.push_manifest_raw(&self.repository, bytes, media_type).await;
        pushed.map(drop).map_err(|error| self.refused(error))
    }

    /// Asks for rights now, so that a refusal has its own words; later requests do it unasked but keep silent.
    pub(crate) async fn authenticate(&self) -> Result<(), RegistryError> {
        let answer = self.client.auth(&self.repository, &self.auth, self.purpose.operation()).await;
        answer.map(drop).map_err(|error| self.refused(error))
    }

    async fn why_unauthorized(&self, error: OciDistributionError) -> RegistryError {
        match self.authenticate().await {
            Err(refused) => refused,
            Ok(()) => self.refused(error),
        }
    }
}

/// A digest in the form in which `oci-client` takes blobs. Never with other addresses that a manifest may name.
struct Named<'a>(&'a Digest);

impl AsLayerDescriptor for Named<'_> {
    fn as_layer_descriptor(&self) -> LayerDescriptor<'_> {
        LayerDescriptor { digest: self.0.as_str(), urls: &None }
    }
}
