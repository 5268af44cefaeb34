//! The one place where compiled code becomes runnable.
#![expect(unsafe_code, reason = "wasmtime cannot tell good native code from bad; the proof is below")]

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled};

use super::CodeFile;

/// Code in this process.
pub(crate) enum Loaded {
    Module(Module),
    Component(Component),
}

impl CodeFile {
    /// Maps the file: code pages and memory images are shared with every process that runs the same wasm.
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Loaded> {
        // The descriptor itself, not whatever has the file's name by now.
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.file().as_raw_fd()));
        match Engine::detect_precompiled_file(&path)? {
            // SAFETY: wasmtime asks that the bytes are what its compiler wrote, and that they do not change while
            // mapped. A `CodeFile` is made in two places only: by the cache, from a file in a directory that only root
            // can write, whose digest is the one recorded when our own worker's output was stored; and from a
            // descriptor handed over by the process which did that (`CodeFile::from_verified`, whose caller vouches).
            // The cache never writes to a file once it has its name: entries are replaced by rename. A mismatch of
            // wasmtime's version, configuration or processor is found by wasmtime itself and is an error.
            Some(Precompiled::Module) => Ok(Loaded::Module(unsafe { Module::deserialize_file(engine, &path)? })),
            // SAFETY: as above.
            Some(Precompiled::Component) => {
                Ok(Loaded::Component(unsafe { Component::deserialize_file(engine, &path)? }))
            }
            None => Err(wasmtime::format_err!("the file is not compiled code")),
        }
    }
}

/// Code that this process has just compiled.
#[cfg(feature = "compile")]
pub(super) fn load_own(engine: &Engine, code: &[u8]) -> wasmtime::Result<Loaded> {
    match Engine::detect_precompiled(code) {
        // SAFETY: `worker::compile`, the only caller, passes the bytes that this engine's compiler returned.
        Some(Precompiled::Module) => Ok(Loaded::Module(unsafe { Module::deserialize(engine, code)? })),
        // SAFETY: as above.
        Some(Precompiled::Component) => Ok(Loaded::Component(unsafe { Component::deserialize(engine, code)? })),
        None => Err(wasmtime::format_err!("the compiler's output is not compiled code")),
    }
}
