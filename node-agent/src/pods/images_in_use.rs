//! Images that pods use: those of all their containers, running or ended, as their bundles have it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::images::ImageUsers;
use crate::shims::Record;
use crate::volumes::Layout;

/// Digests of the images that pods of the agent with this `--run-dir` use, whether it runs or not: for others who want to
/// remove images. Empty if there never was one.
///
/// # Errors
/// What cannot be read.
pub fn images_of_pods(run_dir: &Path) -> Result<BTreeSet<String>, String> {
    Bundles(Layout::bundles_in(run_dir)).images_in_use()
}

/// The bundles of this node.
#[derive(Debug)]
pub(super) struct Bundles(pub(super) PathBuf);

impl ImageUsers for Bundles {
    fn images_in_use(&self) -> Result<BTreeSet<String>, String> {
        let mut used = BTreeSet::new();
        for pod in children(&self.0)? {
            for bundle in children(&pod)? {
                // One that is not whole yet is of an image that was asked for a moment ago.
                if let Ok(Some(record)) = Record::read(&bundle) {
                    used.extend(record.image_id.rsplit_once('@').map(|(_, digest)| digest.to_owned()));
                }
            }
        }
        Ok(used)
    }
}

/// None of what goes away meanwhile.
fn children(dir: &Path) -> Result<Vec<PathBuf>, String> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(format!("read {}: {error}", dir.display())),
    }
}
