//! The code cache: `<dir>/<compatibility hash>/<wasm digest>.cwasm`.

use std::path::{Path, PathBuf};

/// Content-addressed store of compiled code.
#[derive(Debug, Clone)]
pub struct CodeCache {}

/// An open, verified entry.
#[derive(Debug)]
pub struct CodeFile {}

/// The cache could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("code cache {path}: {operation}")]
    Io {
        path: PathBuf,
        operation: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{0:?} is not a digest of the form sha256:<64 hex digits>")]
    Digest(String),
}

impl CodeCache {
    /// Opens or makes the cache at `dir`.
    pub fn open(_dir: &Path) -> Result<CodeCache, CacheError> {
        todo!()
    }

    /// The entry for a wasm digest (`sha256:...`), verified once per process.
    pub fn get(&self, _wasm_digest: &str) -> Result<Option<CodeFile>, CacheError> {
        todo!()
    }

    /// Puts an entry in place by rename; the last of two wins.
    pub fn insert(&self, _wasm_digest: &str, _code: &[u8]) -> Result<(), CacheError> {
        todo!()
    }
}

impl CodeFile {
    /// From a file descriptor that was received from a process which verified it (front to container).
    pub fn from_verified(_file: std::os::fd::OwnedFd) -> CodeFile {
        todo!()
    }

    /// To be passed on.
    pub fn into_fd(self) -> std::os::fd::OwnedFd {
        todo!()
    }
}
