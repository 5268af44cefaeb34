//! Images from a layout, as if they had been pulled.

use super::source::Source;
use super::{Progress, PullCause, PullError, Puller};
use crate::image::Image;
use crate::layout::{Import, Layout, LayoutError};
use crate::reference::Reference;
use crate::store::StoreError;

/// A layout could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The layout itself.
    #[error("cannot import: {0}")]
    Layout(#[from] LayoutError),
    /// One of its images. Those before it are in the store.
    #[error("cannot import {}: {}", .0.reference, .0.cause)]
    Image(#[source] Box<PullError>),
    /// The store.
    #[error("cannot import: {0}")]
    Store(#[from] StoreError),
}

impl Puller {
    /// Takes all images of a layout into the store, by the same rules and limits as from a registry, and says which, each under all
    /// its names. `unnamed` is for images which have no name in the layout, and its repository for those which have only a tag.
    pub async fn import(
        &self,
        from: Import,
        unnamed: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Vec<(Image, Vec<Reference>)>, ImportError> {
        let _hold = self.store.hold().await?;
        let (scratch, most) = (self.store.scratch().to_owned(), self.config.largest_archive);
        let layout = tokio::task::spawn_blocking(move || Layout::read(from, &scratch, most));
        let layout = layout.await.map_err(|_| StoreError::Worker)??;
        let mut images = Vec::new();
        for (digest, references) in layout.images(unnamed)? {
            let [first, ..] = references.as_slice() else { continue };
            let imported = async {
                let source = Source::Layout(&layout);
                let bytes = source.manifest(&digest, self.config.largest_manifest).await?;
                let resolved = self.descend(&source, bytes, digest.clone()).await?;
                self.take_in(&source, resolved, &references, progress).await
            };
            let failed = |cause: PullCause| ImportError::Image(Box::new(PullError::new(first, cause)));
            let image = imported.await.map_err(failed)?;
            images.push((image, references));
        }
        Ok(images)
    }
}
