//! Engine and linkers, made once before any fork.

use std::fmt;

use wasmtime::{Engine, component};

use crate::code::{CodeFile, Loaded};
use crate::guest::{component as guest_component, module as guest_module};
use crate::program::Program;
use crate::{engine, program};

/// Sizes of what is shared by all guests of a zygote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Instances of one guest at the same time: bounds the concurrent requests of an http guest. Each costs every process
    /// two mappings, some 500 bytes of kernel memory.
    pub instances: u32,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { instances: 128 }
    }
}

/// Engine and linkers. Has no thread and no tokio runtime, so a process that holds one may fork.
pub struct Host {
    pub(crate) engine: Engine,
    module: wasmtime::Linker<guest_module::State>,
    component: component::Linker<guest_component::State>,
    pub(crate) instances: u32,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("instances", &self.instances).finish_non_exhaustive()
    }
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error("make the wasm engine")]
pub struct HostError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Compiled code cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Made by another version or for another processor, or damaged.
    #[error("load compiled code")]
    Code(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It wants something from its host that is not there. The text names it.
    #[error("{0}")]
    Import(String),
    /// Neither a command nor an http handler. The text says what is missing.
    #[error("{0}")]
    NotRunnable(String),
}

impl Host {
    /// Makes engine and linkers: some milliseconds, once per zygote.
    pub fn new(config: &HostConfig) -> Result<Self, HostError> {
        Self::with(engine::Purpose::Run { instances: config.instances }, config.instances)
            .map_err(|error| HostError(error.into()))
    }

    pub(crate) fn with(purpose: engine::Purpose, instances: u32) -> wasmtime::Result<Self> {
        let engine = Engine::new(&engine::config(purpose))?;
        let module = guest_module::linker(&engine)?;
        let component = guest_component::linker(&engine)?;
        Ok(Self { engine, module, component, instances })
    }

    #[cfg(feature = "compile")]
    pub(crate) fn module_linker(&self) -> &wasmtime::Linker<guest_module::State> {
        &self.module
    }

    #[cfg(feature = "compile")]
    pub(crate) fn component_linker(&self) -> &component::Linker<guest_component::State> {
        &self.component
    }

    /// What a core module may import.
    #[cfg(feature = "compile")]
    pub(crate) fn module_imports(&self) -> wasmtime::Result<Vec<(String, String)>> {
        guest_module::imports(&self.engine, &self.module)
    }

    /// Maps compiled code into this process (about 0.1 ms) and links it.
    pub fn load(&self, code: CodeFile) -> Result<Program, LoadError> {
        match code.load(&self.engine).map_err(|error| LoadError::Code(error.into()))? {
            Loaded::Module(module) => program::from_module(&self.module, &module),
            Loaded::Component(component) => program::from_component(&self.engine, &self.component, &component),
        }
    }
}
