//! An open file of compiled code.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Compiled code that was verified through this very file descriptor, which keeps it what it was.
#[derive(Debug)]
pub struct CodeFile(File);

impl CodeFile {
    /// A file descriptor received from a process that verified it (the front, which passes it to the container).
    ///
    /// The caller vouches for it: what it holds is run as native code.
    pub fn from_verified(file: OwnedFd) -> Self {
        Self(file.into())
    }

    pub(super) fn new(file: File) -> Self {
        Self(file)
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// To be passed on.
    pub fn into_fd(self) -> OwnedFd {
        self.0.into()
    }
}

impl AsFd for CodeFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
