//! Pushing: blobs which the registry lacks, then the manifest.

use bytes::{Bytes, BytesMut};
use futures::Stream;
use thiserror::Error;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use crate::artifact::{Artifact, Blob, Source};
use crate::digest::Digest;
use crate::pull::{Progress, ProgressEvent};
use crate::reference::Reference;
use crate::registry::{Credential, Purpose, RegistryConfig, RegistryError, RegistryFailure, Session, Sessions};

const PIECE: usize = 256 * 1024;

/// Pushes images.
pub struct Pusher {
    sessions: Sessions,
}

impl std::fmt::Debug for Pusher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pusher").finish_non_exhaustive()
    }
}

/// An image could not be pushed.
#[derive(Debug, Error)]
#[error("failed to push image \"{reference}\": {cause}")]
pub struct PushError {
    /// Which image.
    pub reference: Reference,
    /// Why not.
    pub cause: PushCause,
}

/// Why an image could not be pushed.
#[derive(Debug, Error)]
pub enum PushCause {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A file of the image.
    #[error("blob {digest} cannot be read: {cause}")]
    Read {
        /// Which blob.
        digest: Digest,
        /// Why not.
        cause: std::io::Error,
    },
}

impl Pusher {
    /// A pusher that reaches registries in this way.
    pub fn new(registries: RegistryConfig) -> Self {
        Self { sessions: Sessions::new(registries) }
    }

    /// Asks a registry whether it takes a credential. One that asks nobody for any takes every one.
    pub async fn log_in(&self, registry: &str, credential: &Credential) -> Result<(), RegistryError> {
        let failed = |error: &dyn std::error::Error| RegistryError {
            registry: registry.to_owned(),
            failure: RegistryFailure::Configuration(error.to_string()),
            mirrors: Vec::new(),
        };
        // A session is of a repository: nothing is asked of this one.
        let reference = Reference::parse(&format!("{registry}/samara/login")).map_err(|error| failed(&error))?;
        self.sessions.open(&reference, credential, Purpose::LogIn)?.greet().await
    }

    /// Pushes an image under a name and returns its digest. Blobs which the repository has are not sent.
    pub async fn push(
        &self,
        reference: &Reference,
        artifact: &Artifact,
        credential: &Credential,
        progress: &dyn Progress,
    ) -> Result<Digest, PushError> {
        let pushed = self.push_with(reference, artifact, credential, progress).await;
        pushed.map_err(|cause| PushError { reference: reference.clone(), cause })
    }

    async fn push_with(
        &self,
        reference: &Reference,
        artifact: &Artifact,
        credential: &Credential,
        progress: &dyn Progress,
    ) -> Result<Digest, PushCause> {
        let session = self.sessions.open(reference, credential, Purpose::Push)?;
        let size = artifact.blobs.iter().map(|blob| blob.size).sum();
        progress.report(ProgressEvent::Resolved { digest: &artifact.digest(), size });
        for blob in &artifact.blobs {
            push_blob(&session, blob, progress).await?;
        }
        session.push_manifest(artifact.manifest.clone(), artifact.media_type()).await?;
        Ok(artifact.digest())
    }
}

async fn push_blob(session: &Session, blob: &Blob, progress: &dyn Progress) -> Result<(), PushCause> {
    let tell = |sent| progress.report(ProgressEvent::Sending { digest: &blob.digest, size: blob.size, sent });
    if session.has_blob(&blob.digest).await? {
        tell(blob.size);
        return Ok(());
    }
    tell(0);
    match &blob.source {
        Source::Bytes(bytes) => {
            let bytes = bytes.clone();
            let once = futures::stream::once(async move { Ok(bytes) });
            session.push_blob(&blob.digest, blob.size, once, &tell).await?;
        }
        Source::File(file) => {
            let file = File::open(file.path()).await;
            let file = file.map_err(|cause| PushCause::Read { digest: blob.digest.clone(), cause })?;
            session.push_blob(&blob.digest, blob.size, pieces(file), &tell).await?;
        }
    }
    Ok(())
}

/// A file, piece by piece.
fn pieces(file: File) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    futures::stream::try_unfold(file, |mut file| async move {
        let mut buffer = BytesMut::with_capacity(PIECE);
        match file.read_buf(&mut buffer).await? {
            0 => Ok(None),
            _ => Ok(Some((buffer.freeze(), file))),
        }
    })
}
