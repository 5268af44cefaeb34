//! Unpacked layers, one directory per diff ID, shared by all images that have the layer.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ImageStore;
use super::error::{At as _, Operation, StoreError};
use crate::digest::Digest;
use crate::removal::Scratch;
use crate::unpack::{UnpackError, UnpackLimits, unpack};

/// Why a layer did not become a directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// Tells the thread that nobody waits any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl ImageStore {
    /// Where a layer is unpacked, or would be.
    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.algorithm()).join(diff_id.hex())
    }

    /// Waits for another that unpacks the same layer; who holds this looks first whether it is there by now.
    pub(crate) async fn claim_layer(&self, diff_id: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        self.inner.layers.lock(diff_id).await
    }

    pub(crate) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).is_dir()
    }

    /// Unpacks a blob in a thread. The caller has claimed the layer.
    pub(crate) async fn unpack_layer(
        &self,
        blob: &Digest,
        diff_id: &Digest,
        limits: UnpackLimits,
    ) -> Result<(), LayerError> {
        let cancel = CancelOnDrop(Arc::default());
        let cancelled = Arc::clone(&cancel.0);
        let (store, blob, diff_id) = (self.clone(), self.blob_path(blob), diff_id.clone());
        let unpacked = tokio::task::spawn_blocking(move || {
            let own = store.inner.own.path();
            let directory = Scratch::make(own).at(Operation::Create, own)?;
            fs::set_permissions(
                directory.path(),
                <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755),
            )
            .at(Operation::Create, directory.path())?;
            let into = File::open(directory.path()).at(Operation::Open, directory.path())?;
            let layer = File::open(&blob).at(Operation::Open, &blob)?;
            let disk = &store.inner.disk;
            disk.fill(&into).at(Operation::Write, directory.path())?;
            let unpacked = unpack(layer, into.into(), &diff_id, limits, &cancelled)?;
            tracing::debug!(%diff_id, ?unpacked, "layer unpacked");
            let path = store.layer_path(&diff_id);
            match disk.place(directory.path(), &path) {
                // Another process was first: the same content.
                Err(_) if path.is_dir() => Ok(()),
                other => Ok(other.at(Operation::Rename, &path)?),
            }
        });
        unpacked.await.unwrap_or(Err(StoreError::Worker.into()))
    }
}
