//! Engine and linkers, made once before any fork.

use crate::code::CodeFile;
use crate::program::Program;

/// Sizes of what is shared by all guests of a zygote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Instances of one guest at the same time: bounds the concurrent requests of an http guest.
    pub instances: u32,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { instances: 256 }
    }
}

/// Engine and linkers. Has no thread and no tokio runtime, so a process that holds one may fork.
#[derive(Debug)]
pub struct Host {}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error("make the wasm engine")]
pub struct HostError(#[source] wasmtime::Error);

/// Compiled code could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("load compiled code")]
pub struct LoadError(#[source] wasmtime::Error);

impl Host {
    /// Makes engine and linkers: some milliseconds, once per zygote.
    pub fn new(_config: &HostConfig) -> Result<Self, HostError> {
        todo!()
    }

    /// Maps compiled code into this process (about 0.1 ms) and links it.
    pub fn load(&self, _code: CodeFile) -> Result<Program, LoadError> {
        todo!()
    }
}
