//! For the fuzz targets: the readers of what strangers wrote, and what must hold of their answers. Not a part of the API.

use std::fs::File;
use std::io::{Cursor, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::digest::Digest;
use crate::format::{Document, PlannedContent, WasmConfig, WasmKind, choose, plan};
use crate::layout::{Import, Layout};
use crate::reference::Reference;
use crate::registry;
use crate::unpack::{UnpackLimits, unpack};

/// A manifest or index, and the configuration that a manifest's image would have.
pub fn documents(manifest: &[u8], config: &[u8]) {
    let _ = WasmConfig::parse(config);
    let _ = WasmKind::of(config);
    match Document::parse(manifest) {
        Ok(Document::Index(index)) => {
            if let Ok(entry) = choose(&index) {
                assert!(index.manifests.contains(entry), "an entry of the index");
            }
        }
        Ok(Document::Manifest(manifest)) => {
            let text = serde_json::to_vec(&manifest).expect("written");
            assert_eq!(Document::parse(&text), Ok(Document::Manifest(manifest.clone())), "read back");
            if let Ok(plan) = plan(&manifest, config) {
                let planned = match plan.content {
                    PlannedContent::Rootfs(layers) => layers.len(),
                    PlannedContent::Module(_) => 1,
                };
                assert_eq!(planned, manifest.layers.len(), "every layer is planned");
            }
        }
        Err(_) => {}
    }
}

/// A layer's archive, packed or not, unpacked into an empty directory.
pub fn layer(archive: &[u8], into: &Path) {
    let archive = with_checksums(archive);
    let limits = UnpackLimits { entries: 64, bytes: 1 << 20 };
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&archive).and_then(|()| file.rewind()).expect("written");
    let directory = File::open(into).expect("opened").into();
    if let Ok(unpacked) = unpack(file, directory, &Digest::of(&archive), limits, &Arc::new(AtomicBool::new(false))) {
        assert!(unpacked.entries <= limits.entries && unpacked.bytes <= limits.bytes, "{unpacked:?}");
    }
}

/// An archive of images, a layout's or docker's; packed or not. What is unpacked of it is below `scratch`, and gone in the end.
pub fn archive(archive: &[u8], scratch: &Path) {
    const MOST: u64 = 1 << 20;
    let from = Import::Archive(Box::new(Cursor::new(with_checksums(archive))));
    let unnamed = Reference::parse("localhost/given:now").expect("a name");
    let Ok(layout) = Layout::read(from, scratch, MOST) else { return };
    let Ok(images) = layout.images(Some(&unnamed)) else { return };
    for (digest, names) in images {
        assert!(!names.is_empty(), "{digest} has no name");
        if let Ok(document) = layout.document(&digest, MOST) {
            let _ = Document::parse(&document);
        }
    }
}

/// The archive with the checksum of each header as it has to be: what is changed at random would not get past it. A packed one is
/// as it was.
fn with_checksums(archive: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    const PACKED: [&[u8]; 2] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd"];
    let mut archive = archive.to_vec();
    if PACKED.iter().any(|magic| archive.starts_with(magic)) {
        return archive;
    }
    let mut rest = archive.as_mut_slice();
    while let Some((block, behind)) = rest.split_first_chunk_mut::<BLOCK>() {
        // Zeros are the end and have none.
        if block.iter().any(|byte| *byte != 0) {
            let mut header = tar::Header::from_byte_slice(block).clone();
            header.set_cksum();
            *block = *header.as_bytes();
        }
        let content = tar::Header::from_byte_slice(block).entry_size().unwrap_or(0);
        let blocks = usize::try_from(content).unwrap_or(usize::MAX).div_ceil(BLOCK);
        rest = behind.get_mut(blocks.saturating_mul(BLOCK)..).unwrap_or_default();
    }
    archive
}

/// A header `WWW-Authenticate`.
pub fn challenge(text: &str) {
    let _ = registry::challenge(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in `fuzz/seeds`.
    fn seeds(target: &str) -> impl Iterator<Item = Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        let seeds: Vec<_> = std::fs::read_dir(directory).expect("seeds").collect();
        assert!(!seeds.is_empty());
        seeds.into_iter().map(|seed| std::fs::read(seed.expect("seed").path()).expect("read"))
    }

    #[test]
    fn what_holds_of_any_input_holds_of_the_seeds() {
        for bytes in seeds("image-documents") {
            let end = bytes.iter().position(|byte| *byte == 0).expect("two documents");
            documents(&bytes[..end], &bytes[end + 1..]);
        }
        for bytes in seeds("image-layer") {
            layer(&bytes, tempfile::tempdir().expect("a directory").path());
        }
        for bytes in seeds("image-archive") {
            let scratch = tempfile::tempdir().expect("a directory");
            archive(&bytes, scratch.path());
            assert_eq!(std::fs::read_dir(scratch.path()).expect("read").count(), 0);
        }
        seeds("registry-challenge").for_each(|bytes| challenge(&String::from_utf8_lossy(&bytes)));
    }
    #[test]
    fn headers_get_past_the_readers_of_archives() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, length) in [("a", 5), ("b", 512), ("c", 0)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(length);
            builder.append_data(&mut header, name, &vec![b'x'; length as usize][..]).expect("appended");
        }
        let whole = builder.into_inner().expect("an archive");
        assert_eq!(with_checksums(&whole), whole);
        let mut changed = whole;
        for at in [0, 1024, 2048] {
            changed[at] = b'z';
        }
        let changed = with_checksums(&changed);
        let mut names = tar::Archive::new(&changed[..]);
        let names = names.entries().expect("entries").map(|entry| entry.expect("an entry").path_bytes().into_owned());
        assert_eq!(names.collect::<Vec<_>>(), [b"z"; 3]);
        for packed in [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd"] {
            let packed = [packed, &[b'x'; 600]].concat();
            assert_eq!(with_checksums(&packed), packed);
        }
        assert_eq!(with_checksums(b"short"), b"short");
    }
}
