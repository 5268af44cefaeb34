//! What can go wrong in a store, and how an `io::Error` gets the name of what was tried.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::Digest;

/// A store could not do something.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: Operation,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Content that is not what its name says.
    #[error("content is {actual} and not {expected}")]
    Digest {
        /// Its name.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A path that leads in circles, or through something that is no directory.
    #[error("cannot follow the path {0}")]
    Path(String),
    /// The thread that wrote or unpacked is gone.
    #[error("a worker thread ended early")]
    Worker,
}

impl StoreError {
    /// Whether the disk is full, or the quota used up.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Make a file or directory.
    Create,
    /// Open for reading.
    Open,
    /// Read content or a directory.
    Read,
    /// Write content.
    Write,
    /// Put under its final name.
    Rename,
    /// Remove.
    Remove,
    /// Take a lock.
    Lock,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Lock => "lock",
        })
    }
}

/// Names what failed.
pub(super) trait At<T> {
    fn at(self, operation: Operation, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, operation: Operation, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Io { operation, path: path.to_owned(), source: error.into() })
    }
}
