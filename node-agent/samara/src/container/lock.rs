//! Who may start, end or remove a container: whoever holds its lock.
//!
//! Its supervisor holds it from before the first moment at which the container can be found, so nobody takes one that is
//! being started for one that does not run. A supervisor that dies gives it back. It is the file `lock` in the
//! container's directory, and goes with that.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// Held until this and every copy of it is gone.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Held {
    /// For a process that is to hold it as well, as its standard input.
    pub(crate) fn pass_on(&self) -> Result<Stdio> {
        Ok(self.0.try_clone().context("pass the container's lock on")?.into())
    }
}

/// `None`: somebody else has it.
pub(super) fn take(dir: &Path) -> Result<Option<Held>> {
    let path = dir.join("lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("lock {}", path.display())),
    }
    if file.metadata().with_context(|| format!("lock {}", path.display()))?.nlink() == 0 {
        bail!("it has just been removed");
    }
    Ok(Some(Held(file)))
}

/// Whether somebody has it. That may be somebody who asks the same.
pub(super) fn is_taken(dir: &Path) -> bool {
    match File::open(dir.join("lock")) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_holders_until_every_copy_of_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_taken(dir.path()));
        let held = take(dir.path()).unwrap().unwrap();
        assert!(take(dir.path()).unwrap().is_none() && is_taken(dir.path()));
        let copy = held.pass_on().unwrap();
        drop(held);
        assert!(take(dir.path()).unwrap().is_none(), "the copy holds it");
        drop(copy);
        assert!(!is_taken(dir.path()));
        assert!(take(dir.path()).unwrap().is_some());
    }

    #[test]
    fn nobody_takes_the_lock_of_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take(&dir.path().join("none")).is_err() && !is_taken(&dir.path().join("none")));
    }
}
