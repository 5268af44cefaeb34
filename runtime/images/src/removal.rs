//! A directory to work in.

use std::io;
use std::path::Path;

use samara_inside::remove_directory_at;
use tempfile::TempDir;

/// A directory that is removed with its holder, if it is there still.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// Makes one with a name of its own.
    pub(crate) fn make(parent: &Path) -> io::Result<Self> {
        tempfile::Builder::new().prefix("").tempdir_in(parent).map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may have been moved to where it belongs; what is left is removed by the next who opens the store.
        let _gone = remove_directory_at(self.0.path());
    }
}
