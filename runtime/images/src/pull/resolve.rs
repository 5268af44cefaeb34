//! From a name to one manifest and its configuration.

use bytes::Bytes;
use futures::StreamExt as _;

use super::{PullCause, Puller};
use crate::digest::Digest;
use crate::format::{Document, Manifest, Refusal, choose};
use crate::reference::Reference;
use crate::registry::Session;

/// An index may list indexes; nobody has a reason to go deeper.
const DEEPEST: usize = 3;

/// What a name stands for at the registry now.
pub(super) struct Resolved {
    /// What the registry gave for the name: the manifest or an index.
    pub(super) target: Digest,
    pub(super) manifest: Digest,
    pub(super) manifest_bytes: Bytes,
    pub(super) document: Manifest,
}

impl Puller {
    pub(super) async fn resolve(&self, session: &Session, reference: &Reference) -> Result<Resolved, PullCause> {
        let (mut bytes, mut digest) = session.manifest(reference.tag(), reference.digest()).await?;
        let target = digest.clone();
        for _ in 0..DEEPEST {
            within("manifest", bytes.len() as u64, self.config.largest_manifest)?;
            let index = match Document::parse(&bytes)? {
                Document::Manifest(document) => {
                    return Ok(Resolved { target, manifest: digest, manifest_bytes: bytes, document: *document });
                }
                Document::Index(index) => index,
            };
            let chosen = choose(&index)?;
            within("manifest", chosen.size, self.config.largest_manifest)?;
            (bytes, digest) = session.manifest(None, Some(&chosen.digest)).await?;
        }
        Err(Refusal::NestedIndex.into())
    }

    /// The configuration, from the store if it is there.
    pub(super) async fn config_document(&self, session: &Session, manifest: &Manifest) -> Result<Vec<u8>, PullCause> {
        let config = &manifest.config;
        within("configuration", config.size, self.config.largest_config)?;
        if let Some(bytes) = self.store.read_blob(&config.digest)? {
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        if config.size > 0 {
            let mut body = session.blob(&config.digest, 0).await?.bytes;
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece.map_err(|failure| session.failed(failure))?);
                if bytes.len() as u64 > config.size {
                    break;
                }
            }
        }
        let mut hasher = config.digest.hasher();
        hasher.update(&bytes);
        let actual = hasher.finish();
        if bytes.len() as u64 != config.size {
            let (digest, expected, actual) = (config.digest.clone(), config.size, bytes.len() as u64);
            return Err(PullCause::Size { digest, expected, actual });
        }
        match actual == config.digest {
            true => Ok(bytes),
            false => Err(PullCause::Digest { expected: config.digest.clone(), actual }),
        }
    }
}

/// Refuses what says of itself that it is too large.
pub(super) fn within(what: &str, size: u64, limit: u64) -> Result<(), Refusal> {
    match size <= limit {
        true => Ok(()),
        false => Err(Refusal::TooLarge { what: what.to_owned(), size, limit }),
    }
}
