//! Images made here, ready to be pushed or put into a store: the CNCF wasm artifact, and OCI images with a root file system.
//! The same input gives the same bytes: no times, no owners, sorted names.

mod error;
mod face;
mod rootfs;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
pub use error::ArtifactError;
pub use rootfs::RootfsBuilder;
use serde::Serialize;
use tempfile::TempPath;

use crate::digest::Digest;
use crate::format::{Component, Descriptor, Document, Manifest, WasmConfig, WasmKind};
use crate::media_type;
use crate::reference::Reference;
use crate::store::{ImageStore, StoreError};

/// `created` is demanded by readers of the artifact's configuration; an artifact that is the same must say the same.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image that is not in a store: its manifest and all blobs.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// As the manifest says itself.
    media_type: Option<String>,
    pub(crate) manifest: Bytes,
    pub(crate) blobs: Vec<Blob>,
}

/// Content of an [`Artifact`].
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) source: Source,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Bytes(Bytes),
    File(ArtifactFile),
}

/// A file that stays as long as the artifact that has it.
#[derive(Debug, Clone)]
pub(crate) enum ArtifactFile {
    Users(PathBuf),
    Temporary(Arc<TempPath>),
}

impl ArtifactFile {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Users(path) => path,
            Self::Temporary(path) => path,
        }
    }
}

impl Artifact {
    /// The CNCF Wasm OCI artifact of one module or component. Reads the file whole. Blocks.
    pub fn wasm(path: &Path) -> Result<Self, ArtifactError> {
        let read = |source| ArtifactError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(read)?.read_to_end(&mut bytes).map_err(read)?;
        let refused = |refusal| ArtifactError::Refused { path: path.to_owned(), refusal };
        let kind = WasmKind::of(&bytes).map_err(refused)?;
        let component = match kind {
            WasmKind::Module => None,
            WasmKind::Component => Some(face::of_component(&bytes).map_err(refused)?),
        };
        Ok(Self::of_wasm(&bytes, kind, component, Source::File(ArtifactFile::Users(path.to_owned()))))
    }

    /// An image of a store, to be pushed under another name or elsewhere. `None`: it is not there, or not all of it was kept.
    pub fn stored(store: &ImageStore, reference: &Reference) -> Result<Option<Self>, StoreError> {
        let Some(image) = store.get(reference)? else { return Ok(None) };
        let Some(bytes) = store.read_blob(&image.digest)? else { return Ok(None) };
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes) else { return Ok(None) };
        let descriptors = manifest.layers.iter().chain([&manifest.config]);
        if !descriptors.clone().all(|descriptor| store.has_blob(&descriptor.digest)) {
            return Ok(None);
        }
        let blob = |descriptor: &Descriptor| Blob {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            source: Source::File(ArtifactFile::Users(store.blob_path(&descriptor.digest))),
        };
        let blobs = descriptors.map(blob).collect();
        Ok(Some(Self { media_type: manifest.media_type.clone(), manifest: bytes.into(), blobs }))
    }

    fn of_wasm(bytes: &[u8], kind: WasmKind, component: Option<Component>, source: Source) -> Self {
        let layer = Blob { digest: Digest::of(bytes), size: bytes.len() as u64, source };
        let config = to_json(&WasmConfig {
            created: Some(CREATED.to_owned()),
            architecture: "wasm".to_owned(),
            os: os(kind).to_owned(),
            layer_digests: vec![layer.digest.clone()],
            component,
        });
        Self::assemble(media_type::WASM_CONFIG, config, vec![(media_type::WASM_LAYER, layer)])
    }

    /// Puts a manifest over a configuration and layers.
    fn assemble(config_type: &str, config: Bytes, layers: Vec<(&str, Blob)>) -> Self {
        let config = Blob { digest: Digest::of(&config), size: config.len() as u64, source: Source::Bytes(config) };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: config.descriptor(config_type),
            layers: layers.iter().map(|(media_type, layer)| layer.descriptor(media_type)).collect(),
            annotations: None,
        };
        let mut blobs: Vec<Blob> = layers.into_iter().map(|(_, layer)| layer).collect();
        blobs.push(config);
        Self { media_type: manifest.media_type.clone(), manifest: to_json(&manifest), blobs }
    }

    /// What it is to be sent as.
    pub(crate) fn media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST)
    }

    /// Of the manifest: the image's identity.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            artifact_type: None,
            digest: self.digest.clone(),
            size: self.size,
            annotations: None,
            platform: None,
        }
    }
}

/// What an image's `os` says about which WASI it needs.
fn os(kind: WasmKind) -> &'static str {
    match kind {
        WasmKind::Module => "wasip1",
        WasmKind::Component => "wasip2",
    }
}

fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("documents are JSON").into()
}

/// The first bytes of a file, as many as tell what it is.
fn start_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(WasmKind::HEADER as u64).read_to_end(&mut start)?;
    Ok(start)
}
