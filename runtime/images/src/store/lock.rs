//! Who may do what at the same time, between processes, by `flock`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use samara_inside::remove_directory_at;

use super::ImageStore;
use super::error::{At as _, Operation, StoreError};
use crate::removal::Scratch;

/// While it lives, nothing is collected: content may be there which no reference names yet.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: File,
}

/// While it lives, nobody adds content.
pub(super) struct Exclusive {
    _lock: File,
}

impl ImageStore {
    /// Waits only while another one collects.
    pub(crate) async fn hold(&self) -> Result<Hold, StoreError> {
        let path = self.lock_path();
        let locked = tokio::task::spawn_blocking(move || {
            let lock = open_lock(&path)?;
            flock(&lock, FlockOperation::LockShared).at(Operation::Lock, &path)?;
            Ok(Hold { _lock: lock })
        });
        locked.await.map_err(|_| StoreError::Worker)?
    }

    /// `None` if someone is adding content.
    pub(super) fn exclusive(&self) -> Result<Option<Exclusive>, StoreError> {
        let path = self.lock_path();
        let lock = open_lock(&path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Exclusive { _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).at(Operation::Lock, &path),
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.root().join("lock")
    }
}

/// This process' own directory for what is not whole yet. Locked while it is used, removed at the end.
#[derive(Debug)]
pub(super) struct OwnDirectory {
    directory: Scratch,
    _lock: File,
}

impl OwnDirectory {
    /// Makes one, and removes those of dead processes. One that cannot be removed is told of and left: the images are there still.
    pub(super) fn make(parent: &Path) -> Result<Self, StoreError> {
        // Between making a directory and locking it nobody may take it for a dead one's.
        let entrance_path = parent.join("lock");
        let entrance = open_lock(&entrance_path)?;
        flock(&entrance, FlockOperation::LockExclusive).at(Operation::Lock, &entrance_path)?;
        for entry in fs::read_dir(parent).at(Operation::Read, parent)? {
            let path = entry.at(Operation::Read, parent)?.path();
            if path.is_dir()
                && let Err(error) = remove_dead(&path)
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "what a dead process left is not removed");
            }
        }
        let directory = Scratch::make(parent).at(Operation::Create, parent)?;
        let lock_path = directory.path().join("lock");
        let lock = open_lock(&lock_path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).at(Operation::Lock, &lock_path)?;
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes a process' directory if nobody holds its lock any more.
fn remove_dead(directory: &Path) -> Result<(), StoreError> {
    let lock = open_lock(&directory.join("lock"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => remove_directory_at(directory).at(Operation::Remove, directory).map(drop),
        Err(_) => Ok(()),
    }
}

fn open_lock(path: &Path) -> Result<File, StoreError> {
    File::options().create(true).truncate(false).write(true).open(path).at(Operation::Lock, path)
}
