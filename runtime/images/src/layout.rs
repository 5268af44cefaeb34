//! OCI image layouts: images as files, to be carried to where no registry is.
//!
//! A layout is a directory with `index.json` and `blobs/<algorithm>/<hex>`, or a tar archive of one, plain or packed with gzip or
//! zstd: what `ctr image export`, `skopeo copy oci-archive:`, `docker save` (since 25), `oras copy --to-oci-layout` and we write.
//! Of an archive in docker's older form a layout is made.

mod archive;
mod docker;
mod error;
mod export;
mod made;
mod names;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use error::LayoutError;
use names::Entry;
use tempfile::TempDir;

use crate::digest::Digest;
use crate::format::{Document, Index};
use crate::reference::Reference;

/// No layout of images that anyone made has a longer list.
const LONGEST_INDEX: u64 = 4 << 20;

/// Where a layout is read from.
pub enum Import {
    /// A directory.
    Directory(PathBuf),
    /// A tar archive, packed or not.
    Archive(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Import {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => formatter.debug_tuple("Directory").field(path).finish(),
            Self::Archive(_) => formatter.debug_tuple("Archive").finish_non_exhaustive(),
        }
    }
}

impl Import {
    /// From a directory or an archive, whichever is at this path.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        match path.is_dir() {
            true => Ok(Self::Directory(path.to_owned())),
            false => match File::open(path) {
                Ok(file) => Ok(Self::Archive(Box::new(file))),
                Err(source) => Err(LayoutError::Read { path: path.to_owned(), source }),
            },
        }
    }
}

/// A layout that can be read at any place.
pub(crate) struct Layout {
    root: PathBuf,
    /// Where an archive was unpacked to.
    _unpacked: Option<TempDir>,
}

impl Layout {
    /// Blocks. An archive is unpacked below `scratch` first, as far as it belongs to a layout, and no more than `most` bytes of it.
    pub(crate) fn read(from: Import, scratch: &Path, most: u64) -> Result<Self, LayoutError> {
        match from {
            Import::Directory(root) => Ok(Self { root, _unpacked: None }),
            Import::Archive(archive) => {
                let unpacked = archive::unpack(archive, scratch, most)?;
                Ok(Self { root: unpacked.path().to_owned(), _unpacked: Some(unpacked) })
            }
        }
    }

    /// What is in it, and under which names.
    pub(crate) fn images(&self, unnamed: Option<&Reference>) -> Result<Vec<(Digest, Vec<Reference>)>, LayoutError> {
        let bytes = self.bounded("index.json", LONGEST_INDEX)?;
        let index = match Document::parse(&bytes) {
            Ok(Document::Index(index)) => index,
            Ok(Document::Manifest(_)) => return Err(LayoutError::Format("index.json is a manifest".to_owned())),
            // Some tools leave out the version of what has no other.
            Err(refusal) => serde_json::from_slice::<Index>(&bytes)
                .map_err(|_| LayoutError::Format(format!("index.json: {refusal}")))?,
        };
        names::images(index.manifests.into_iter().map(Entry::of), unnamed)
    }

    /// A document whole.
    pub(crate) fn document(&self, digest: &Digest, longest: u64) -> Result<Vec<u8>, LayoutError> {
        self.bounded(&blob(digest), longest)
    }

    /// Opens a blob.
    pub(crate) fn open(&self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.root.join(blob(digest));
        File::open(&path).map_err(|source| LayoutError::Read { path, source })
    }

    fn bounded(&self, name: &str, longest: u64) -> Result<Vec<u8>, LayoutError> {
        let path = self.root.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(longest.saturating_add(1)).read_to_end(&mut bytes));
        match read {
            Ok(length) if length as u64 > longest => Err(LayoutError::TooLong { name: name.to_owned(), longest }),
            Ok(_) => Ok(bytes),
            Err(source) if name == "index.json" && source.kind() == io::ErrorKind::NotFound => {
                Err(LayoutError::Format("it has neither an index.json nor a manifest.json, so it is neither an OCI image layout nor what docker saves".to_owned()))
            }
            Err(source) => Err(LayoutError::Read { path, source }),
        }
    }
}

/// Where a blob is in a layout.
fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
