//! Where an image comes from.

use std::io::Read as _;

use bytes::{Bytes, BytesMut};

use super::{PullCause, Puller};
use crate::digest::Digest;
use crate::format::Descriptor;
use crate::layout::{Layout, LayoutError};
use crate::registry::Session;

const PIECE: usize = 256 << 10;

/// Where an image comes from.
pub(super) enum Source<'a> {
    Registry(&'a Session),
    Layout(&'a Layout),
}

impl Source<'_> {
    /// A manifest or index that a digest names.
    pub(super) async fn manifest(&self, digest: &Digest, longest: u64) -> Result<Bytes, PullCause> {
        match self {
            Self::Registry(session) => Ok(session.manifest(None, Some(digest), longest).await?.0),
            Self::Layout(layout) => document(layout, digest, longest),
        }
    }

    /// A configuration.
    pub(super) async fn small_blob(&self, digest: &Digest, longest: u64) -> Result<Bytes, PullCause> {
        match self {
            Self::Registry(session) => Ok(session.small_blob(digest, longest).await?),
            Self::Layout(layout) => document(layout, digest, longest),
        }
    }
}

fn document(layout: &Layout, digest: &Digest, longest: u64) -> Result<Bytes, PullCause> {
    let bytes = layout.document(digest, longest)?;
    match digest.check(&bytes) {
        Ok(()) => Ok(bytes.into()),
        Err(actual) => Err(PullCause::Digest { expected: digest.clone(), actual }),
    }
}

impl Puller {
    /// Copies a blob of a layout into the store.
    pub(super) async fn copy_blob(
        &self,
        layout: &Layout,
        blob: &Descriptor,
        check: &super::fetch::Check<'_>,
    ) -> Result<(), PullCause> {
        let mut file = layout.open(&blob.digest)?;
        let actual = file.metadata().map(|about| about.len()).unwrap_or_default();
        if actual != blob.size {
            return Err(PullCause::Size { digest: blob.digest.clone(), expected: blob.size, actual });
        }
        let mut writer = self.store.write_blob(&blob.digest)?;
        let mut first = true;
        loop {
            let mut buffer = BytesMut::zeroed(PIECE);
            let unreadable = |source| LayoutError::Read { path: blob.digest.as_str().into(), source };
            let count = file.read(&mut buffer).map_err(unreadable)?;
            buffer.truncate(count);
            if first {
                check(&buffer)?;
                first = false;
            }
            if count == 0 {
                return Ok(writer.commit().await?);
            }
            writer.write(buffer.freeze()).await?;
        }
    }
}
