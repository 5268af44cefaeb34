//! Images on disk, each piece under the digest of its content.
//!
//! ```text
//! <root>/blobs/sha256/<hex>        manifests, configurations, layers and wasm files, verified while they were written
//!        layers/sha256/<hex>/      a layer unpacked, under its diff ID; the directory itself is an overlay lower directory
//!        references/<hex>.json     a name and the manifest it stands for
//!        tmp/<random>/             one per process that has the store open; locked, so that what a dead one left can be told
//!        lock                      shared by who adds content, exclusive for who removes it
//! ```
//!
//! # Guarantees
//! Everything is made under `tmp/` and renamed, so a name that exists holds all of its content; a process killed at any point leaves
//! the old state or the new one. A reference is written last, so what it needs is there. Two that fetch the same content
//! do it once within a process; between processes the second rename changes nothing.
//!
//! Content is flushed before it has its name, so the same holds for a loss of power: see [`disk`].

mod blobs;
mod collect;
#[cfg(test)]
mod deep;
mod disk;
mod error;
mod layers;
mod lock;
mod lookup;
#[cfg(test)]
mod model;
#[cfg(test)]
mod power;
mod records;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use blobs::BlobWriter;
pub use collect::Collected;
use disk::Disk;
use error::At as _;
pub use error::{Operation, StoreError};
pub(crate) use layers::LayerError;
use lock::OwnDirectory;
use records::Record;

use crate::digest::Digest;
use crate::format::{Document, Plan, PlannedContent, WasmKind, plan};
use crate::image::{Content, Image};
use crate::keyed::Keyed;
use crate::reference::Reference;

/// A store of images in one directory. Cheap to clone; several processes may have one open.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    own: OwnDirectory,
    disk: Disk,
    blobs: Keyed<Digest>,
    layers: Keyed<Digest>,
}

/// One image of [`ImageStore::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Of the manifest.
    pub digest: Digest,
    /// As in [`Image::size`].
    pub size: u64,
    /// All names which stand for it: with tags first, then pinned ones.
    pub references: Vec<Reference>,
    /// Seconds since the epoch of its latest pull.
    pub pulled_at: u64,
}

impl ImageStore {
    /// Opens a store, and makes it if there is none; removes what dead processes left half done.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for directory in ["blobs/sha256", "blobs/sha512", "layers/sha256", "layers/sha512", "references", "tmp"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).at(Operation::Create, &path)?;
        }
        // Unpacked files have the modes and owners of the image; only root may look.
        let private = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
        fs::set_permissions(root, private).at(Operation::Create, root)?;
        let own = OwnDirectory::make(&root.join("tmp"))?;
        let (disk, blobs, layers) = (Disk::default(), Keyed::default(), Keyed::default());
        let inner = Inner { root: root.to_owned(), own, disk, blobs, layers };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Where what is not whole yet is kept; removed with this process.
    pub(crate) fn scratch(&self) -> &Path {
        self.inner.own.path()
    }

    /// Lets one more name stand for an image. `false`: there is no image under the first.
    pub fn tag(&self, image: &Reference, name: &Reference) -> Result<bool, StoreError> {
        match self.find(image)? {
            Some((target, image)) => self.publish(name, &target, &image.digest).map(|()| true),
            None => Ok(false),
        }
    }

    /// Finds an image by a name: one it was pulled by, or any pin of a digest that was pulled from the same repository.
    /// `None` also if some of its content is missing, so that it is pulled again.
    pub fn get(&self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        Ok(self.find(reference)?.map(|(_, image)| image))
    }

    /// The same, with what the registry gave for the name: the manifest or an index.
    pub(crate) fn find(&self, reference: &Reference) -> Result<Option<(Digest, Image)>, StoreError> {
        let record = match self.record(reference)? {
            Some(record) => Some(record),
            None => match reference.digest() {
                Some(digest) => self.records()?.into_iter().find(|record| {
                    record.reference.name() == reference.name()
                        && (record.manifest == *digest || record.target == *digest)
                }),
                None => None,
            },
        };
        match record {
            Some(record) => Ok(self.load(reference, &record.manifest)?.map(|image| (record.target, image))),
            None => Ok(None),
        }
    }

    /// All images which are whole, in the order of their digests.
    pub fn list(&self) -> Result<Vec<StoredImage>, StoreError> {
        let mut images: BTreeMap<Digest, StoredImage> = BTreeMap::new();
        for record in self.records()? {
            if let Some(image) = images.get_mut(&record.manifest) {
                image.pulled_at = image.pulled_at.max(record.pulled_at);
                image.references.push(record.reference);
            } else if let Some(image) = self.load(&record.reference, &record.manifest)? {
                let stored = StoredImage {
                    digest: image.digest.clone(),
                    size: image.size,
                    references: vec![record.reference],
                    pulled_at: record.pulled_at,
                };
                images.insert(image.digest, stored);
            }
        }
        let mut images: Vec<StoredImage> = images.into_values().collect();
        for image in &mut images {
            image.references.sort_by_key(|reference| (reference.tag().is_none(), reference.clone()));
        }
        Ok(images)
    }

    /// Forgets a name; with the last tag of an image go its pins too. Returns whether there was such a name.
    /// The content goes with the next [`ImageStore::collect`].
    pub fn remove(&self, reference: &Reference) -> Result<bool, StoreError> {
        let Some(removed) = self.record(reference)? else { return Ok(false) };
        self.remove_record(reference)?;
        let others: Vec<Record> =
            self.records()?.into_iter().filter(|record| record.manifest == removed.manifest).collect();
        if others.iter().all(|record| record.reference.tag().is_none()) {
            for other in others {
                self.remove_record(&other.reference)?;
            }
        }
        Ok(true)
    }

    /// Forgets all names of an image. Returns whether there were any.
    pub fn remove_image(&self, digest: &Digest) -> Result<bool, StoreError> {
        let mut any = false;
        for record in self.records()? {
            if record.manifest == *digest {
                any |= self.remove_record(&record.reference)?;
            }
        }
        Ok(any)
    }

    /// Opens a file of the image by its path, looked up across the layers as overlay and a process with this root would: the
    /// entrypoint's bytes before any root is mounted. For a bare module, any path is that module. `None`: no such file.
    pub fn open_in_image(&self, image: &Image, path: &str) -> Result<Option<File>, StoreError> {
        match &image.content {
            Content::Module { path, .. } => File::open(path).at(Operation::Open, path).map(Some),
            Content::Rootfs { layers } => lookup::open(layers, path),
        }
    }

    /// Reads an image's documents and checks that its content is there.
    pub(crate) fn load(&self, reference: &Reference, manifest: &Digest) -> Result<Option<Image>, StoreError> {
        let Some(manifest_bytes) = self.read_blob(manifest)? else { return Ok(None) };
        let Ok(Document::Manifest(document)) = Document::parse(&manifest_bytes) else { return Ok(None) };
        let Some(config_bytes) = self.read_blob(&document.config.digest)? else { return Ok(None) };
        let Ok(Plan { config, content, .. }) = plan(&document, &config_bytes) else { return Ok(None) };
        let Some(content) = self.content(&content)? else { return Ok(None) };
        let sizes = document.layers.iter().map(|layer| layer.size);
        let size = sizes.fold((manifest_bytes.len() + config_bytes.len()) as u64, u64::saturating_add);
        Ok(Some(Image {
            reference: reference.clone(),
            digest: manifest.clone(),
            config_digest: document.config.digest.clone(),
            size,
            config,
            content,
        }))
    }

    fn content(&self, planned: &PlannedContent) -> Result<Option<Content>, StoreError> {
        match planned {
            PlannedContent::Module(descriptor) => {
                let path = self.blob_path(&descriptor.digest);
                let mut start = Vec::new();
                match File::open(&path) {
                    Ok(file) => {
                        file.take(WasmKind::HEADER as u64).read_to_end(&mut start).at(Operation::Read, &path)?
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error).at(Operation::Open, &path),
                };
                let Ok(kind) = WasmKind::of(&start) else { return Ok(None) };
                Ok(Some(Content::Module { path, digest: descriptor.digest.clone(), kind }))
            }
            PlannedContent::Rootfs(planned) => {
                let layers: Vec<PathBuf> = planned.iter().map(|layer| self.layer_path(&layer.diff_id)).collect();
                if !layers.iter().all(|path| path.is_dir()) {
                    return Ok(None);
                }
                let layers = stack(layers);
                Ok(Some(Content::Rootfs { layers }))
            }
        }
    }
}

/// What overlay shows the same of, and takes: it refuses a directory that is given twice, and does not look for the opaque
/// attribute on roots. Of the same layer twice only the upper one counts: it hides all that the lower one has.
fn stack(layers: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut stacked: Vec<PathBuf> = Vec::with_capacity(layers.len());
    for layer in layers {
        match is_opaque(&layer) {
            true => stacked.clear(),
            false => stacked.retain(|other| *other != layer),
        }
        stacked.push(layer);
    }
    stacked
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::lgetxattr(directory, crate::unpack::OPAQUE, &mut value), Ok(1) if value == *b"y")
}
