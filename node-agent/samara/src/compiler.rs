//! The agent's compiler: the runtime's worker process and code cache.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use samara_agent::images::CompileLimits;
use samara_agent::{Compile, CompileError};
use samara_images::Admit;
use samara_runtime::CodeCache;
use samara_runtime::code;

/// Compiles in a limited child of this executable.
#[derive(Debug)]
pub(crate) struct Compiler {
    cache: CodeCache,
    exe: PathBuf,
    limits: code::CompileLimits,
}

impl Compiler {
    /// With the cache that the fronts of this root directory load from.
    pub(crate) fn new(root_dir: &Path, exe: PathBuf, limits: CompileLimits) -> Result<Self> {
        let dir = root_dir.join("code");
        let cache = CodeCache::open(&dir).with_context(|| format!("open the code cache {}", dir.display()))?;
        let CompileLimits { memory, cpu_seconds, module } = limits;
        Ok(Self { cache, exe, limits: code::CompileLimits { memory, cpu_seconds, wasm: module } })
    }
}

/// What this runtime gives to components.
#[derive(Debug)]
pub(crate) struct Imports;

impl Admit for Imports {
    fn imports(&self, imports: &[String]) -> Result<(), String> {
        code::admit(imports).map_err(|problem| format!("it {problem}"))
    }
}

#[async_trait]
impl Compile for Compiler {
    async fn ensure(&self, wasm: File, digest: &str) -> Result<(), CompileError> {
        match code::ensure_within(&self.cache, &self.exe, wasm, digest, self.limits).await {
            Ok(_) => Ok(()),
            Err(error) => Err(CompileError { reason: format!("{:#}", anyhow::Error::from(error)) }),
        }
    }

    fn forget(&self, digest: &str) -> Result<(), CompileError> {
        let removed = self.cache.remove(digest);
        removed.map_err(|error| CompileError { reason: format!("{:#}", anyhow::Error::from(error)) })
    }
}
