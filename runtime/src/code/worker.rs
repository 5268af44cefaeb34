//! The compile worker: wasm on file 0, code on file 1, error text on file 2.
//!
//! A process of its own because a compiler is large and its input hostile: it limits its memory and time, gives up
//! root and every privilege, and from the first byte of its input on can do nothing but answer.

use std::process::ExitCode;

/// `argv[0]` by which the binary knows that it is the compile worker.
pub const NAME: &str = "samara-compile";

/// Exit code when the wasm itself is at fault; the reason, fit for a user, is on file 2.
pub(super) const REFUSED: u8 = 2;

/// The whole life of the worker process; returns its exit code.
#[cfg(feature = "compile")]
pub fn main() -> ExitCode {
    use std::io::Write as _;
    let limits = match process::limits(std::env::args()) {
        Ok(limits) => limits,
        Err(message) => return fail(ExitCode::FAILURE, &message),
    };
    if let Err(error) = process::confine(&limits) {
        return fail(ExitCode::FAILURE, &format!("give up privileges: {error}"));
    }
    // What it opens, it opens now.
    let compiler = match compiler::Compiler::new() {
        Ok(compiler) => compiler,
        Err(error) => return fail(ExitCode::FAILURE, &format!("{error:#}")),
    };
    if let Err(error) = super::seclusion::seclude() {
        return fail(ExitCode::FAILURE, &format!("give up system calls: {error}"));
    }
    let wasm = match process::input(&limits) {
        Ok(wasm) => wasm,
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            let most = limits.wasm;
            return fail(
                ExitCode::from(REFUSED),
                &format!("it is larger than {most} bytes, the most that is compiled"),
            );
        }
        Err(error) => return fail(ExitCode::FAILURE, &format!("read the wasm: {error}")),
    };
    let code = match compiler.compile(&wasm) {
        Ok(code) => code,
        Err(compiler::Error::Refused(refusal)) => return fail(ExitCode::from(REFUSED), &refusal.to_string()),
        Err(compiler::Error::Host(error)) => return fail(ExitCode::FAILURE, &format!("{error:#}")),
    };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(&code).and_then(|()| stdout.write_all(&super::compile::trailer(&code))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(ExitCode::FAILURE, &format!("write the code: {error}")),
    }
}

/// This build has no compiler.
#[cfg(not(feature = "compile"))]
pub fn main() -> ExitCode {
    fail(ExitCode::FAILURE, "this build has no compiler")
}

fn fail(code: ExitCode, message: &str) -> ExitCode {
    eprint!("{message}");
    code
}

#[cfg(feature = "compile")]
mod process {
    use std::fs::File;
    use std::io::{self, Read as _};
    use std::os::fd::AsFd as _;

    use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid, getrlimit, setrlimit};
    use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    use crate::code::CompileLimits;

    /// Nobody and nogroup.
    const NOBODY: u32 = 65534;

    pub(super) fn limits(mut args: impl Iterator<Item = String>) -> Result<CompileLimits, String> {
        args.next();
        let mut number = |name: &str| {
            let text = args.next().ok_or_else(|| format!("missing argument: {name}"))?;
            text.parse().map_err(|error| format!("{name} {text:?}: {error}"))
        };
        Ok(CompileLimits { memory: number("memory")?, cpu_seconds: number("cpu")?, wasm: number("size")? })
    }

    /// Limits are of memory that is written to, not of address space: the engine reserves much and uses little.
    pub(super) fn confine(limits: &CompileLimits) -> io::Result<()> {
        let set = |resource, limit: u64| {
            // What this process itself was given less of cannot be raised.
            let limit = getrlimit(resource).maximum.map_or(limit, |most| limit.min(most));
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
        };
        set(Resource::Data, limits.memory)?;
        set(Resource::Cpu, limits.cpu_seconds)?;
        set(Resource::Core, 0)?;
        set(Resource::Fsize, 0)?;
        // The process has one thread yet, so what is set for the thread holds for all.
        if geteuid().is_root() {
            set_thread_groups(&[])?;
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_res_gid(Some(group), Some(group), Some(group))?;
            set_thread_res_uid(Some(user), Some(user), Some(user))?;
        }
        set_no_new_privs(true)?;
        Ok(())
    }

    /// From the beginning, wherever the shared offset of the file stands.
    pub(super) fn input(limits: &CompileLimits) -> io::Result<Vec<u8>> {
        let mut file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        // A pipe has no beginning to go back to.
        let _ = io::Seek::rewind(&mut file);
        let mut wasm = Vec::new();
        file.take(limits.wasm.saturating_add(1)).read_to_end(&mut wasm)?;
        if wasm.len() as u64 > limits.wasm {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(wasm)
    }
}

#[cfg(feature = "compile")]
pub(crate) mod compiler {
    //! Check, compile, link once.

    use crate::code::imports::check;
    use crate::code::inspect::{Refusal, Shape, inspect};
    use crate::code::load::{Loaded, load_trusted};
    use crate::engine::Purpose;
    use crate::host::Host;
    use crate::{LoadError, program};

    #[derive(Debug)]
    pub(crate) enum Error {
        /// The wasm's fault.
        Refused(RefusalText),
        /// Ours.
        Host(wasmtime::Error),
    }

    /// See [`Refusal`].
    pub(crate) type RefusalText = Box<dyn std::error::Error + Send + Sync>;

    impl From<Refusal> for Error {
        fn from(refusal: Refusal) -> Self {
            Self::Refused(refusal.into())
        }
    }

    /// All that is needed whatever the wasm.
    pub(crate) struct Compiler {
        host: Host,
        imports: Vec<(String, String)>,
    }

    impl Compiler {
        pub(crate) fn new() -> wasmtime::Result<Self> {
            let host = Host::with(Purpose::Compile, 1)?;
            let imports = host.module_imports()?;
            Ok(Self { host, imports })
        }

        pub(crate) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, Error> {
            let Self { host, imports } = self;
            let shape = inspect(wasm)?;
            check(&shape, imports)?;
            let compiled = match shape {
                Shape::Module { .. } => host.engine.precompile_module(wasm),
                Shape::Component { .. } => host.engine.precompile_component(wasm),
            };
            let code = compiled.map_err(|error| Refusal::Unsupported(format!("{error:#}")))?;
            // Names fit, but do types and sizes? Better known now than when a container starts.
            let program = match load_trusted(&host.engine, &code) {
                Ok(Loaded::Module(module)) => program::from_module(host.module_linker(), &module),
                Ok(Loaded::Component(component)) => {
                    program::from_component(&host.engine, host.component_linker(), &component)
                }
                Err(error) => return Err(Refusal::Unsupported(format!("{error:#}")).into()),
            };
            match program {
                Ok(_) => Ok(code),
                Err(LoadError::Import(text) | LoadError::NotRunnable(text)) => Err(Refusal::NotRunnable(text).into()),
                Err(LoadError::Code(error)) => Err(Error::Host(wasmtime::Error::msg(error))),
            }
        }
    }
}
