//! Removing content that no reference needs any more.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use samara_inside::remove_directory_at;

use super::ImageStore;
use super::error::{At as _, Operation, StoreError};
use crate::digest::Digest;
use crate::format::{Document, PlannedContent, plan};

/// What [`ImageStore::collect`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes of both, as the files' lengths have it.
    pub bytes: u64,
}

#[derive(Default)]
struct Needed {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
}

impl ImageStore {
    /// Removes all content without a reference. `None`: not now, since an image is being added. Blocks.
    pub fn collect(&self) -> Result<Option<Collected>, StoreError> {
        let buried = {
            let Some(_exclusive) = self.exclusive()? else { return Ok(None) };
            let needed = self.needed()?;
            let mut buried = self.bury("blobs", &needed.blobs)?;
            buried.extend(self.bury("layers", &needed.layers)?);
            buried
        };
        // Others may go on while the files are removed.
        let mut collected = Collected::default();
        for path in buried {
            let about = fs::symlink_metadata(&path).at(Operation::Read, &path)?;
            if about.is_dir() {
                collected.bytes += remove_directory_at(&path).at(Operation::Remove, &path)?;
                collected.layers += 1;
            } else {
                fs::remove_file(&path).at(Operation::Remove, &path)?;
                collected.bytes += about.len();
                collected.blobs += 1;
            }
        }
        Ok(Some(collected))
    }

    fn needed(&self) -> Result<Needed, StoreError> {
        let mut needed = Needed::default();
        for record in self.records()? {
            needed.blobs.insert(record.target);
            let Some(bytes) = self.read_blob(&record.manifest)? else { continue };
            needed.blobs.insert(record.manifest);
            let Ok(Document::Manifest(manifest)) = Document::parse(&bytes) else { continue };
            needed.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
            let config = self.read_blob(&manifest.config.digest)?;
            let planned = config.map(|config| plan(&manifest, &config));
            if let Some(Ok(planned)) = planned
                && let PlannedContent::Rootfs(layers) = planned.content
            {
                needed.layers.extend(layers.into_iter().map(|layer| layer.diff_id));
            }
            needed.blobs.insert(manifest.config.digest);
        }
        Ok(needed)
    }

    /// Moves what is not needed out of sight: quick, and whole or not at all. Into a directory that is there: a full disk, which is
    /// why this is done, may have no room for another.
    fn bury(&self, kind: &str, needed: &HashSet<Digest>) -> Result<Vec<PathBuf>, StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut buried = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let directory = self.root().join(kind).join(algorithm);
            for entry in fs::read_dir(&directory).at(Operation::Read, &directory)? {
                let entry = entry.at(Operation::Read, &directory)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let digest = format!("{algorithm}:{name}").parse::<Digest>();
                if digest.is_ok_and(|digest| needed.contains(&digest)) {
                    continue;
                }
                let path = entry.path();
                let grave = self.inner.own.path().join(format!("grave-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
                self.inner.disk.bury(&path, &grave).at(Operation::Rename, &path)?;
                buried.push(grave);
            }
        }
        Ok(buried)
    }
}
