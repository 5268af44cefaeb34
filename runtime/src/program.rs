//! A guest's code, linked and ready to run.

use std::fmt;

use wasmtime::component::Component;
use wasmtime::{Engine, InstancePre, Linker, Module, component};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::guest::{component as guest_component, module as guest_module};
use crate::{Exit, Host, LoadError, Stop, World, http};

/// What a program is, found from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Core module with WASI preview 1 and `_start`.
    Module,
    /// Component that exports `wasi:cli/run`.
    Command,
    /// Component that exports `wasi:http/incoming-handler`.
    Http,
}

/// Loaded code.
pub struct Program(Code);

enum Code {
    Module(InstancePre<guest_module::State>),
    Command(CommandPre<guest_component::State>),
    Http(ProxyPre<guest_component::State>),
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.kind()).finish()
    }
}

impl Program {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.0 {
            Code::Module(_) => Kind::Module,
            Code::Command(_) => Kind::Command,
            Code::Http(_) => Kind::Http,
        }
    }

    /// Runs to the end on the calling thread, which must not be inside a tokio runtime; makes its own.
    ///
    /// The caller ends the process afterwards: threads of a guest that computes for ever may still run.
    pub fn run(self, host: &Host, world: World, stop: Stop) -> Exit {
        match self.0 {
            Code::Module(module) => guest_module::run(&module, &host.engine, world, &stop),
            Code::Command(command) => guest_component::run(&command, &host.engine, world, &stop),
            Code::Http(proxy) => http::serve(proxy, host, world, &stop),
        }
    }
}

/// Interface by which a component is a command.
pub(crate) const RUN: &str = "wasi:cli/run";
/// Interface by which a component serves http.
pub(crate) const HANDLER: &str = "wasi:http/incoming-handler";

pub(crate) fn from_module(linker: &Linker<guest_module::State>, module: &Module) -> Result<Program, LoadError> {
    let linked = linker.instantiate_pre(module).map_err(import_error)?;
    let start = module.get_export("_start");
    if start.is_none_or(|start| start.func().is_none()) {
        return Err(LoadError::NotRunnable("the module exports no function _start".into()));
    }
    Ok(Program(Code::Module(linked)))
}

pub(crate) fn from_component(
    engine: &Engine,
    linker: &component::Linker<guest_component::State>,
    component: &Component,
) -> Result<Program, LoadError> {
    let linked = linker.instantiate_pre(component).map_err(import_error)?;
    let kind = component.component_type();
    let exports = |interface: &str| kind.exports(engine).any(|(name, _)| name.split('@').next() == Some(interface));
    let code = if exports(HANDLER) {
        ProxyPre::new(linked).map(Code::Http)
    } else if exports(RUN) {
        CommandPre::new(linked).map(Code::Command)
    } else {
        return Err(LoadError::NotRunnable(format!("the component exports neither {RUN} nor {HANDLER}")));
    };
    code.map(Program).map_err(|error| LoadError::NotRunnable(format!("{error:#}")))
}

fn import_error(error: wasmtime::Error) -> LoadError {
    LoadError::Import(format!("{error:#}"))
}
