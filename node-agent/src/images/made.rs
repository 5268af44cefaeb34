//! Whose code is in the code cache: for each image the wasm that was compiled for it, on disk, so that code goes with its image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By image the digests of its wasm.
type ByImage = BTreeMap<String, BTreeSet<String>>;

/// What was compiled for which image.
#[derive(Debug)]
pub(super) struct Made {
    path: PathBuf,
    known: Mutex<ByImage>,
}

impl Made {
    /// Reads the file; one that is not there or damaged says nothing: code without an image stays, and is of no harm.
    pub(super) fn open(path: PathBuf) -> Self {
        let known = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "it is not known whose code is kept");
                ByImage::new()
            }),
            Err(_) => ByImage::new(),
        };
        Self { path, known: Mutex::new(known) }
    }

    /// This wasm is the image's, and compiled.
    pub(super) fn note(&self, image: &str, wasm: &str) {
        let mut known = self.lock();
        if known.get(image).is_some_and(|all| all.contains(wasm)) {
            return;
        }
        known.entry(image.to_owned()).or_default().insert(wasm.to_owned());
        self.write(&known);
    }

    /// Images that something was compiled for.
    pub(super) fn images(&self) -> BTreeSet<String> {
        self.lock().keys().cloned().collect()
    }

    /// What was compiled for images that are gone, and for none of the others.
    pub(super) fn orphans(&self, gone: &BTreeSet<String>) -> BTreeSet<String> {
        orphans(&self.lock(), gone)
    }

    /// Their code is gone too.
    pub(super) fn forget(&self, gone: &BTreeSet<String>) {
        let mut known = self.lock();
        let before = known.len();
        known.retain(|image, _| !gone.contains(image));
        if known.len() != before {
            self.write(&known);
        }
    }

    fn write(&self, known: &ByImage) {
        if let Err(error) = write(&self.path, known) {
            tracing::warn!(path = %self.path.display(), %error, "it is not kept whose code is in the cache");
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByImage> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn orphans(known: &ByImage, gone: &BTreeSet<String>) -> BTreeSet<String> {
    let (gone, kept): (Vec<_>, Vec<_>) = known.iter().partition(|(image, _)| gone.contains(*image));
    let needed: BTreeSet<&String> = kept.into_iter().flat_map(|(_, wasm)| wasm).collect();
    gone.into_iter().flat_map(|(_, wasm)| wasm).filter(|wasm| !needed.contains(wasm)).cloned().collect()
}

fn write(path: &Path, known: &ByImage) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
    file.write_all(&serde_json::to_vec(known).map_err(io::Error::other)?)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn code_goes_with_the_last_image_that_it_was_made_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("code.json");
        let made = Made::open(path.clone());
        for (image, wasm) in [("a", "one"), ("a", "both"), ("b", "both"), ("a", "one")] {
            made.note(image, wasm);
        }
        let made = Made::open(path.clone());
        assert_eq!(made.images(), set(&["a", "b"]));
        assert_eq!(made.orphans(&set(&[])), set(&[]));
        assert_eq!(made.orphans(&set(&["a"])), set(&["one"]));
        assert_eq!(made.orphans(&set(&["a", "b"])), set(&["one", "both"]));
        made.forget(&set(&["a"]));
        assert_eq!(Made::open(path.clone()).orphans(&set(&["b"])), set(&["both"]));
        fs::write(&path, "{").unwrap();
        assert_eq!(Made::open(path).images(), set(&[]));
    }
}
