//! An image as it stands in the store, ready to run.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::format::{ImageConfig, WasmKind};
use crate::reference::Reference;

/// An image in the store. Its files stay until the image is removed and the store collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The name it was asked for by.
    pub reference: Reference,
    /// Of the manifest: the image's identity (`imageID`).
    pub digest: Digest,
    /// Of the configuration.
    pub config_digest: Digest,
    /// Bytes of manifest, configuration and layers as the registry has them.
    pub size: u64,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// What there is to run.
    pub content: Content,
}

/// What an image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A root file system.
    Rootfs {
        /// Unpacked layers, lowest first, each usable as a lower directory of an overlay.
        layers: Vec<PathBuf>,
    },
    /// One module or component, and no root file system.
    Module {
        /// The wasm file.
        path: PathBuf,
        /// Of its bytes.
        digest: Digest,
        /// What its first bytes say.
        kind: WasmKind,
    },
}

impl Image {
    /// `registry/repository@digest`: names exactly this image, wherever the tag goes.
    pub fn pinned(&self) -> Reference {
        self.reference.at(self.digest.clone())
    }
}
