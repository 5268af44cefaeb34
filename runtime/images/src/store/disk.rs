//! The store's changes of the disk, one by one, in an order that a loss of power cannot turn into half a thing.
//!
//! Content is on the disk before it has its name, and names are on the disk before a reference speaks of them:
//!
//! ```text
//! write ─▶ flush content ─▶ rename to its digest ─▶ flush directories ─▶ write and flush reference ─▶ rename
//! ```
//!
//! So a file with a name is whole, and a reference that is read has all that it needs, or is the one from before. What is not
//! flushed at the end is the last rename: a pull that has just succeeded may be forgotten, and is made again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

#[cfg(test)]
use super::power::Power;

/// The disk of one store. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) power: Power,
}

/// Nothing of it exists outside of tests.
#[cfg(not(test))]
impl Disk {
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "in tests the power may go here")]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk {
    /// Appends to a file that has no name yet.
    pub(super) fn write(&self, file: &mut NamedTempFile, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        #[cfg(test)]
        self.power.dirty(file.as_file());
        file.write_all(bytes)
    }

    /// Gives a file its name, in place of what had it.
    pub(super) fn persist(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        self.step()?;
        file.as_file().sync_data()?;
        #[cfg(test)]
        self.power.clean(file.as_file());
        self.step()?;
        #[cfg(test)]
        self.power.rename(path);
        file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// A directory is about to be filled with many files.
    pub(super) fn fill(&self, directory: &File) -> io::Result<()> {
        self.step()?;
        #[cfg(test)]
        self.power.dirty(directory);
        #[cfg(not(test))]
        let _ = directory;
        Ok(())
    }

    /// Gives such a directory its name. One flush of the file system is less than one of each file.
    pub(super) fn place(&self, directory: &Path, path: &Path) -> io::Result<()> {
        self.step()?;
        let opened = File::open(directory)?;
        rustix::fs::syncfs(&opened)?;
        #[cfg(test)]
        self.power.clean(&opened);
        self.step()?;
        #[cfg(test)]
        self.power.rename(path);
        fs::rename(directory, path)
    }

    /// The names in a directory are on the disk after this.
    pub(super) fn flush_names(&self, directory: &Path) -> io::Result<()> {
        self.step()?;
        File::open(directory)?.sync_all()?;
        #[cfg(test)]
        self.power.names_are_safe(directory);
        Ok(())
    }

    /// Moves something away from where it is looked for.
    pub(super) fn bury(&self, path: &Path, grave: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(path, grave)
    }

    /// Removes a file.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::remove_file(path)
    }

    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        self.power.step()
    }
}
