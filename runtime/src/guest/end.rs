//! From the error a call ended with to the exit of a process.

use std::fmt::Write as _;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::memory::OutOfMemory;
use crate::Exit;
use crate::stdio::Sink;

/// How a call into a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It called exit.
    Exited(i32),
    /// Its memory limit.
    OutOfMemory(String),
    /// A trap, or a host call that could not go on: first line, and the whole report.
    Trapped { message: String, report: String },
}

impl End {
    pub(crate) fn of(error: &wasmtime::Error) -> Self {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Self::Exited(*code);
        }
        if let Some(limit) = error.downcast_ref::<OutOfMemory>() {
            return Self::OutOfMemory(limit.to_string());
        }
        let message = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        let mut report = format!("{message}\n");
        if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
            let text = backtrace.to_string();
            // The first line only says that a backtrace follows.
            for frame in text.lines().skip(1) {
                // Writing to a string does not fail.
                let _ = writeln!(report, "{frame}");
            }
        }
        Self::Trapped { message, report }
    }

    /// Tells the guest's own log what the guest cannot say itself.
    pub(crate) fn report(&self, stderr: &Sink) {
        let text = match self {
            Self::Exited(_) => return,
            Self::OutOfMemory(message) => &format!("{message}\n"),
            Self::Trapped { report, .. } => report,
        };
        if let Err(error) = stderr.write(text.as_bytes()) {
            tracing::debug!(%error, "report a guest's end on its stderr");
        }
    }

    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Exited(code) => Exit::own(code),
            Self::OutOfMemory(message) => Exit::out_of_memory(message),
            Self::Trapped { message, .. } => Exit::trap(message),
        }
    }
}
