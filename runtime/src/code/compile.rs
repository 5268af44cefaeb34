//! The parent's side of the compile worker.

use std::fs::File;
use std::path::Path;

use super::{CacheError, CodeCache, CodeFile};

/// What one compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of address space.
    pub memory: u64,
    /// CPU seconds.
    pub cpu_seconds: u64,
    /// Bytes of wasm.
    pub wasm: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory: 4 << 30,
            cpu_seconds: 300,
            wasm: 256 << 20,
        }
    }
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The wasm itself: trying again will not help. The text names what is wrong and is fit for a user.
    #[error("{0}")]
    Refused(String),
    #[error("the compiler ended with {0}")]
    Worker(String),
    #[error("run the compiler")]
    Spawn(#[source] std::io::Error),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Compiles in a child process: `exe` under the name `samara-compile`.
pub async fn compile(
    _exe: &Path,
    _wasm: File,
    _limits: CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    todo!()
}

/// From the cache, or compiled and put there.
pub async fn ensure(
    _cache: &CodeCache,
    _exe: &Path,
    _wasm: File,
    _digest: &str,
) -> Result<CodeFile, CompileError> {
    todo!()
}
