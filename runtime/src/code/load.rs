//! The one place where compiled code becomes runnable.
#![expect(unsafe_code, reason = "wasmtime cannot tell good native code from bad; the proof is below")]

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
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
        if !path.exists() {
            return self.load_copy(engine);
        }
        match Engine::detect_precompiled_file(&path)? {
            // SAFETY: wasmtime asks that the bytes are what its compiler wrote, and that they do not change while
            // mapped. A `CodeFile` is made in two places only: by the cache, from a file in a directory that only root
            // can write, whose digest is the one recorded when our own worker's output was stored; and from a
            // descriptor handed over by the process which did that (`CodeFile::from_verified`, whose caller vouches).
            // The cache never writes to a file once it has its name: entries are replaced by rename. A mismatch of
            // wasmtime's version, configuration or processor is found by wasmtime itself and is an error.
            Some(Precompiled::Module) => unsafe { Module::deserialize_file(engine, &path).map(Loaded::Module) },
            // SAFETY: as above.
            Some(Precompiled::Component) => unsafe {
                Component::deserialize_file(engine, &path).map(Loaded::Component)
            },
            None => Err(wasmtime::format_err!("the file is not compiled code")),
        }
    }

    /// Where `/proc` is not mounted (a process that joins a container whose root has none): a copy in memory of its own.
    fn load_copy(&self, engine: &Engine) -> wasmtime::Result<Loaded> {
        let length = usize::try_from(self.file().metadata()?.len())?;
        let mut code = vec![0; length];
        self.file().read_exact_at(&mut code, 0)?;
        load_trusted(engine, &code)
    }
}

/// Code from a `CodeFile`, or that this process has just compiled.
pub(super) fn load_trusted(engine: &Engine, code: &[u8]) -> wasmtime::Result<Loaded> {
    match Engine::detect_precompiled(code) {
        // SAFETY: the bytes are what our compiler returned: either in this process (`worker::compile`), or they were
        // read from a `CodeFile`, of which the same holds (see `CodeFile::load`).
        Some(Precompiled::Module) => unsafe { Module::deserialize(engine, code).map(Loaded::Module) },
        // SAFETY: as above.
        Some(Precompiled::Component) => unsafe { Component::deserialize(engine, code).map(Loaded::Component) },
        None => Err(wasmtime::format_err!("the bytes are not compiled code")),
    }
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::engine::Purpose;
    use crate::host::Host;

    #[test]
    fn code_can_be_loaded_where_there_is_no_proc() {
        let host = Host::with(Purpose::Compile, 1).unwrap();
        for (wat, is_module) in [("(module)", true), ("(component)", false)] {
            let wasm = wat::parse_str(wat).unwrap();
            let code =
                if is_module { host.engine.precompile_module(&wasm) } else { host.engine.precompile_component(&wasm) };
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&code.unwrap()).unwrap();
            let loaded = CodeFile::new(file).load_copy(&host.engine).unwrap();
            assert_eq!(matches!(loaded, Loaded::Module(_)), is_module);
        }
    }

    #[test]
    fn what_is_not_compiled_code_is_not_loaded() {
        let host = Host::with(Purpose::Compile, 1).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&wat::parse_str("(module)").unwrap()).unwrap();
        assert!(CodeFile::new(file.try_clone().unwrap()).load(&host.engine).is_err());
        assert!(CodeFile::new(file).load_copy(&host.engine).is_err());
    }
}
