//! References on disk: a name, and what it stood for when it was pulled.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::ImageStore;
use super::error::{At as _, Operation, StoreError};
use crate::digest::Digest;
use crate::reference::Reference;

/// What one name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) reference: Reference,
    /// What the registry gave for the name: the manifest, or the index that led to it.
    pub(crate) target: Digest,
    pub(crate) manifest: Digest,
    /// Seconds since the epoch.
    pub(crate) pulled_at: u64,
}

impl ImageStore {
    /// Lets names stand for an image: the one it was pulled by, and its pin. Everything they need must be there.
    pub(crate) fn publish(&self, reference: &Reference, target: &Digest, manifest: &Digest) -> Result<(), StoreError> {
        // A name must not outlive what it stands for.
        for content in ["blobs", "layers"] {
            for algorithm in ["sha256", "sha512"] {
                let directory = self.root().join(content).join(algorithm);
                self.inner.disk.flush_names(&directory).at(Operation::Write, &directory)?;
            }
        }
        let pulled_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        for reference in [reference.at(manifest.clone()), reference.clone()] {
            let (target, manifest) = (target.clone(), manifest.clone());
            self.write_record(&Record { reference, target, manifest, pulled_at })?;
        }
        Ok(())
    }

    fn write_record(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.record_path(&record.reference);
        let own = self.inner.own.path();
        let mut file = NamedTempFile::new_in(own).at(Operation::Create, own)?;
        let text = serde_json::to_vec(record).map_err(io::Error::other).at(Operation::Write, &path)?;
        self.inner.disk.write(&mut file, &text).at(Operation::Write, &path)?;
        self.inner.disk.persist(file, &path).at(Operation::Rename, &path)
    }

    /// `None` also for one that cannot be read: it is as good as none, and the next pull writes it anew.
    pub(super) fn record(&self, reference: &Reference) -> Result<Option<Record>, StoreError> {
        let path = self.record_path(reference);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok().filter(|it: &Record| it.reference == *reference)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at(Operation::Read, &path),
        }
    }

    /// All that can be read.
    pub(super) fn records(&self) -> Result<Vec<Record>, StoreError> {
        let directory = self.root().join("references");
        let mut records = Vec::new();
        for entry in fs::read_dir(&directory).at(Operation::Read, &directory)? {
            let path = entry.at(Operation::Read, &directory)?.path();
            match fs::read(&path) {
                Ok(text) => match serde_json::from_slice(&text) {
                    Ok(record) => records.push(record),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "image reference cannot be read"),
                },
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at(Operation::Read, &path),
            }
        }
        Ok(records)
    }

    pub(super) fn remove_record(&self, reference: &Reference) -> Result<bool, StoreError> {
        let path = self.record_path(reference);
        match self.inner.disk.remove(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).at(Operation::Remove, &path),
        }
    }

    /// Hashed, because a reference may be longer than a file name.
    fn record_path(&self, reference: &Reference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes());
        self.root().join("references").join(format!("{}.json", name.hex()))
    }
}
