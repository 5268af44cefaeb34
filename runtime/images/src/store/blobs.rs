//! Blobs: written by a thread of their own, hashed on the way, and only named when they are what their name says.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ImageStore;
use super::disk::Disk;
use super::error::{At as _, Operation, StoreError};
use crate::digest::Digest;

/// Documents are read whole; anything longer was not accepted at the pull.
const LONGEST_DOCUMENT: u64 = 16 << 20;

impl ImageStore {
    /// Where a blob is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// The first bytes of a blob and its length; `None` if there is none.
    pub(crate) fn blob_start(&self, digest: &Digest, longest: usize) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at(Operation::Open, &path)?,
        };
        let length = file.metadata().at(Operation::Read, &path)?.len();
        let mut start = Vec::new();
        file.take(longest as u64).read_to_end(&mut start).at(Operation::Read, &path)?;
        Ok(Some((start, length)))
    }

    /// A document whole; `None` if there is none.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(about) if about.len() > LONGEST_DOCUMENT => {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge)).at(Operation::Read, &path);
            }
            _ => {}
        }
        fs::read(&path).at(Operation::Read, &path).map(Some)
    }

    /// Waits for another that fetches the same blob; who holds this looks first whether it is there by now.
    pub(crate) async fn claim_blob(&self, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        self.inner.blobs.lock(digest).await
    }

    /// Begins a blob.
    pub(crate) fn write_blob(&self, digest: &Digest) -> Result<BlobWriter, StoreError> {
        let own = self.inner.own.path();
        let file = NamedTempFile::new_in(own).at(Operation::Create, own)?;
        let (sender, receiver) = mpsc::channel(16);
        let (expected, path) = (digest.clone(), self.blob_path(digest));
        let disk = self.inner.disk.clone();
        let thread = tokio::task::spawn_blocking(move || write(&disk, file, receiver, &expected, &path));
        Ok(BlobWriter { sender, thread, written: 0 })
    }

    /// Writes a small blob that the caller has checked.
    pub(crate) fn put_blob_as(&self, bytes: &[u8], digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        if path.is_file() {
            return Ok(());
        }
        let own = self.inner.own.path();
        let mut file = NamedTempFile::new_in(own).at(Operation::Create, own)?;
        self.inner.disk.write(&mut file, bytes).at(Operation::Write, &path)?;
        self.inner.disk.persist(file, &path).at(Operation::Rename, &path)
    }

    /// Removes a blob which is not needed once unpacked.
    pub(crate) fn drop_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        match self.inner.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(Operation::Remove, &path),
            _ => Ok(()),
        }
    }
}

/// A blob being written. Dropped without [`BlobWriter::commit`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    sender: mpsc::Sender<Piece>,
    thread: JoinHandle<Result<(), StoreError>>,
    written: u64,
}

enum Piece {
    Bytes(Bytes),
    Commit,
}

impl BlobWriter {
    /// How many bytes were given to it.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Takes the next piece; waits while the disk is slower than the network.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        if self.sender.send(Piece::Bytes(bytes)).await.is_err() {
            return self.failure().await;
        }
        self.written += length;
        Ok(())
    }

    /// Checks the whole and gives it its name.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        // If the thread has ended, its result tells why.
        let _ended = self.sender.send(Piece::Commit).await;
        self.failure().await
    }

    async fn failure(&mut self) -> Result<(), StoreError> {
        (&mut self.thread).await.unwrap_or(Err(StoreError::Worker))
    }
}

fn write(
    disk: &Disk,
    mut file: NamedTempFile,
    mut pieces: mpsc::Receiver<Piece>,
    expected: &Digest,
    path: &Path,
) -> Result<(), StoreError> {
    let mut hasher = expected.hasher();
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                hasher.update(&bytes);
                disk.write(&mut file, &bytes).at(Operation::Write, path)?;
            }
            Some(Piece::Commit) => break,
            // Given up: the file goes with this function.
            None => return Ok(()),
        }
    }
    let actual = hasher.finish();
    if actual != *expected {
        return Err(StoreError::Digest { expected: expected.clone(), actual });
    }
    disk.persist(file, path).at(Operation::Rename, path)
}
