//! The front: serves the task API, decides, opens, and asks the zygote to fork.
//!
//! ```text
//!  create: config.json ─ outline (decide) ─ open (do) ─ code ─ forks ─▶ zygote ─▶ container
//!                                                                  ▲
//!  start, kill, logs: process ─ control.sock ──────────────────────┘ ends: exit.json, then told
//! ```
//!
//! A call enters in `service`, is carried out by `tasks`, `task` and `process`; what a process may do next is `phase`'s
//! table. A front that is started where another died goes by the bundles (`adopt`).

mod adopt;
mod args;
mod code;
mod config;
mod containerd;
mod error;
mod events;
mod fifo;
mod forks;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod hooks;
mod hostfile;
mod link;
mod listening;
mod living;
mod log;
mod logs;
mod open;
mod orphan;
mod outline;
mod pause;
mod phase;
mod process;
mod sandbox;
mod serve;
mod service;
mod signals;
mod start;
mod status;
mod task;
mod tasks;
mod terminal;
mod turns;
mod upgrade;
mod watched;

use std::ffi::OsString;
use std::process::ExitCode;

use args::Command;

pub use code::{CodeError, DEFAULT_CODE_DIR};
pub use error::TaskError;
pub use hooks::HookError;
pub use open::OpenError;
pub use outline::OutlineError;
pub use phase::IllegalStep;
pub use serve::ServeError;
pub use signals::UnknownSignal;

/// Our own binary, even if it was replaced on disk since it was started.
pub(crate) const SELF: &str = "/proc/self/exe";

/// The whole life of a shim process; `args` are without its name. To be called before there is a second thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match args::parse(args) {
        Ok(Command::Version) => containerd::version(),
        Ok(Command::Info) => containerd::info(),
        Ok(Command::Start(flags)) => containerd::start(&flags),
        Ok(Command::Delete(flags)) => containerd::delete(&flags),
        Ok(Command::Front { dir }) => start::front(&dir),
        Ok(Command::Serve { dir, containerd, inherited }) => {
            serve::serve(&dir, containerd, inherited).map_err(Into::into)
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("samara shim: {}", error::chain(&*error));
            ExitCode::FAILURE
        }
    }
}
