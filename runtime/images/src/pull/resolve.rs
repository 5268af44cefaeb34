//! From a name to one manifest and its configuration.

use bytes::Bytes;

use super::source::Source;
use super::{Progress, ProgressEvent, PullCause, Puller};
use crate::digest::Digest;
use crate::format::{Document, Manifest, Refusal, choose};
use crate::image::Image;
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
    /// The image that is here, if the registry says that the name still stands for it. Costs no download and, at Docker Hub, nothing
    /// of the rate limit. What the registry does not answer well is asked again with the download.
    pub(super) async fn unchanged(
        &self,
        session: &Session,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Option<Image>, PullCause> {
        let Some((target, image)) = self.store.find(reference)? else { return Ok(None) };
        let name = reference.digest().map(Digest::as_str).or(reference.tag()).unwrap_or("latest");
        match session.resolve(name).await {
            Ok(Some(now)) if now == target || reference.digest() == Some(&now) => {
                progress.report(ProgressEvent::Resolved { digest: &image.digest, size: image.size });
                Ok(Some(image))
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn resolve(&self, session: &Session, reference: &Reference) -> Result<Resolved, PullCause> {
        let longest = self.config.largest_manifest;
        let (bytes, digest) = session.manifest(reference.tag(), reference.digest(), longest).await?;
        self.descend(&Source::Registry(session), bytes, digest).await
    }

    /// From an index to the entry that is for us, and no deeper than anyone has a reason to go.
    pub(super) async fn descend(
        &self,
        source: &Source<'_>,
        mut bytes: Bytes,
        mut digest: Digest,
    ) -> Result<Resolved, PullCause> {
        let target = digest.clone();
        for _ in 0..DEEPEST {
            let index = match Document::parse(&bytes)? {
                Document::Manifest(document) => {
                    return Ok(Resolved { target, manifest: digest, manifest_bytes: bytes, document: *document });
                }
                Document::Index(index) => index,
            };
            let chosen = choose(&index)?;
            within("manifest", chosen.size, self.config.largest_manifest)?;
            bytes = source.manifest(&chosen.digest, self.config.largest_manifest).await?;
            digest = chosen.digest.clone();
        }
        Err(Refusal::NestedIndex.into())
    }

    /// The configuration, from the store if it is there.
    pub(super) async fn config_document(&self, source: &Source<'_>, manifest: &Manifest) -> Result<Vec<u8>, PullCause> {
        let config = &manifest.config;
        within("configuration", config.size, self.config.largest_config)?;
        if let Some(bytes) = self.store.read_blob(&config.digest)? {
            return Ok(bytes);
        }
        let bytes = match config.size {
            0 => Vec::new(),
            size => source.small_blob(&config.digest, size).await?.to_vec(),
        };
        if bytes.len() as u64 != config.size {
            let (digest, expected, actual) = (config.digest.clone(), config.size, bytes.len() as u64);
            return Err(PullCause::Size { digest, expected, actual });
        }
        match config.digest.check(&bytes) {
            Ok(()) => Ok(bytes),
            Err(actual) => Err(PullCause::Digest { expected: config.digest.clone(), actual }),
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
