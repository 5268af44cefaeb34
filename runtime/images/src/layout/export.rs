//! Images of the store as a layout. The same images give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::names::{REF_NAME, WHOLE_NAME};
use super::{LayoutError, blob};
use crate::digest::Digest;
use crate::format::{Descriptor, Document, Index};
use crate::media_type;
use crate::reference::Reference;
use crate::store::ImageStore;

pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What there is to write.
struct Contents {
    index: Vec<u8>,
    blobs: BTreeSet<Digest>,
}

impl ImageStore {
    /// Writes images as a tar archive of an OCI layout, under the names given. Blocks.
    pub fn export_archive(&self, images: &[Reference], to: impl Write) -> Result<(), LayoutError> {
        let contents = self.contents(images)?;
        let mut archive = tar::Builder::new(to);
        append(&mut archive, "oci-layout", LAYOUT.len() as u64, LAYOUT)?;
        append(&mut archive, "index.json", contents.index.len() as u64, contents.index.as_slice())?;
        for digest in &contents.blobs {
            let (file, length) = self.kept(digest, images)?;
            append(&mut archive, &blob(digest), length, file.take(length))?;
        }
        archive.into_inner().and_then(|mut to| to.flush()).map_err(LayoutError::Write)
    }

    /// Writes images into a directory as an OCI layout; what else is there stays. `index.json` is replaced, last. Blocks.
    pub fn export_directory(&self, images: &[Reference], to: &Path) -> Result<(), LayoutError> {
        let contents = self.contents(images)?;
        for digest in &contents.blobs {
            let path = to.join(blob(digest));
            let (mut file, length) = self.kept(digest, images)?;
            if fs::metadata(&path).is_ok_and(|about| about.len() == length) {
                continue;
            }
            fs::create_dir_all(path.parent().unwrap_or(to)).map_err(LayoutError::Write)?;
            place(&path, &mut file)?;
        }
        place(&to.join("oci-layout"), &mut &*LAYOUT)?;
        place(&to.join("index.json"), &mut contents.index.as_slice())
    }

    fn contents(&self, images: &[Reference]) -> Result<Contents, LayoutError> {
        let mut blobs = BTreeSet::new();
        let mut manifests = Vec::new();
        for reference in images {
            let missing = || LayoutError::NoImage(reference.clone());
            let image = self.get(reference)?.ok_or_else(missing)?;
            let bytes = self.read_blob(&image.digest)?.ok_or_else(missing)?;
            let Ok(Document::Manifest(manifest)) = Document::parse(&bytes) else { return Err(missing()) };
            blobs.extend([image.digest.clone(), manifest.config.digest]);
            blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            let mut annotations = BTreeMap::from([(WHOLE_NAME.to_owned(), reference.to_string())]);
            if let Some(tag) = reference.tag() {
                annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            }
            manifests.push(Descriptor {
                media_type: manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()),
                artifact_type: None,
                digest: image.digest,
                size: bytes.len() as u64,
                annotations: Some(annotations),
                platform: None,
            });
        }
        let index = Index { schema_version: 2, media_type: Some(media_type::OCI_INDEX.to_owned()), manifests };
        let index = serde_json::to_vec(&index).map_err(|error| LayoutError::Write(error.into()))?;
        Ok(Contents { index, blobs })
    }

    fn kept(&self, digest: &Digest, images: &[Reference]) -> Result<(File, u64), LayoutError> {
        let path = self.blob_path(digest);
        let opened = File::open(&path).and_then(|file| file.metadata().map(|about| (file, about.len())));
        match (opened, images) {
            (Ok(opened), _) => Ok(opened),
            (Err(error), [image, ..]) if error.kind() == io::ErrorKind::NotFound => {
                Err(LayoutError::NotKept(digest.clone(), image.clone()))
            }
            (Err(source), _) => Err(LayoutError::Read { path, source }),
        }
    }
}

/// Whole or not at all.
fn place(path: &Path, content: &mut dyn Read) -> Result<(), LayoutError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut written = || -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::Builder::new()
            .permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644))
            .tempfile_in(directory)?;
        io::copy(content, &mut file)?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(LayoutError::Write)
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    length: u64,
    content: impl Read,
) -> Result<(), LayoutError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, content).map_err(LayoutError::Write)
}
