//! A guest's code, linked and ready to run.

use crate::{Exit, Host, Stop, World};

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
#[derive(Debug)]
pub struct Program {}

impl Program {
    /// What it is.
    pub fn kind(&self) -> Kind {
        todo!()
    }

    /// Runs to the end on the calling thread, which must not be inside a tokio runtime; makes its own.
    pub fn run(self, _host: &Host, _world: World, _stop: Stop) -> Exit {
        todo!()
    }
}
