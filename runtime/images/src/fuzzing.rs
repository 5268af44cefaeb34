//! For the fuzz targets: the readers of what strangers wrote, and what must hold of their answers. Not a part of the API.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::digest::Digest;
use crate::format::{Document, PlannedContent, WasmConfig, WasmKind, choose, plan};
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
    let limits = UnpackLimits { entries: 64, bytes: 1 << 20 };
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(archive).and_then(|()| file.rewind()).expect("written");
    let directory = File::open(into).expect("opened").into();
    if let Ok(unpacked) = unpack(file, directory, &Digest::of(archive), limits, &Arc::new(AtomicBool::new(false))) {
        assert!(unpacked.entries <= limits.entries && unpacked.bytes <= limits.bytes, "{unpacked:?}");
    }
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
        seeds("registry-challenge").for_each(|bytes| challenge(&String::from_utf8_lossy(&bytes)));
    }
}
