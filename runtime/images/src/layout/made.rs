//! An image that was made here, as a layout: the way into a store without a registry.

use std::fs;
use std::path::Path;

use super::{LayoutError, blob};
use crate::artifact::{Artifact, Source};
use crate::digest::Digest;
use crate::format::{Descriptor, Index};
use crate::media_type;

impl Artifact {
    /// Writes it as an OCI image layout into a directory, without a name. Blocks.
    pub fn write_layout(&self, to: &Path) -> Result<(), LayoutError> {
        let path = |digest: &Digest| to.join(blob(digest));
        for directory in ["blobs/sha256", "blobs/sha512"] {
            fs::create_dir_all(to.join(directory)).map_err(LayoutError::Write)?;
        }
        for part in &self.blobs {
            let written = match &part.source {
                Source::Bytes(bytes) => fs::write(path(&part.digest), bytes),
                Source::File(file) => fs::copy(file.path(), path(&part.digest)).map(drop),
            };
            written.map_err(LayoutError::Write)?;
        }
        fs::write(path(&self.digest()), &self.manifest).map_err(LayoutError::Write)?;
        let manifest = Descriptor {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            digest: self.digest(),
            size: self.manifest.len() as u64,
            annotations: None,
            platform: None,
        };
        let media_type = Some(media_type::OCI_INDEX.to_owned());
        let index = Index { schema_version: 2, media_type, manifests: vec![manifest] };
        let index = serde_json::to_vec(&index).map_err(|error| LayoutError::Write(error.into()))?;
        fs::write(to.join("oci-layout"), super::export::LAYOUT).map_err(LayoutError::Write)?;
        fs::write(to.join("index.json"), index).map_err(LayoutError::Write)
    }
}
