//! The zygote: a single-threaded process with a warm engine that forks containers and is their parent.
//!
//! ```text
//! main ─ signals, own session ─ engine and linkers ─ private, empty mount namespace ─ serve
//!                                                                                      │ Fork
//!                       pid namespace ─ fork ─┬─ parent: start.json, Forked ... reap: exit.json, Exited
//!                                             └─ child: crate::container, never returns
//! ```
//!
//! It reads no container configuration and loads no image code: it is handed open files and passes them to the child.
//! It outlives its fronts. It ends when a front retires it, or when its socket is removed and its front is gone: in both
//! cases only after its last container.

use std::os::fd::OwnedFd;

mod children;
mod fork;
mod pid_namespace;
pub mod protocol;
mod record;
mod seclusion;
mod serve;
mod signals;
mod start;
mod warm;
mod watch;
pub(crate) mod wire;

pub use serve::serve;
pub use start::{connect, listen, start};
pub use warm::{Warm, WarmError};
pub use watch::Watch;

pub(crate) use seclusion::ROOT;
pub(crate) use signals::unblock as unblock_signals;

/// The whole life of a zygote, listening on its file 0 (see [`start()`]). Returns its exit code when it is over.
///
/// To be called before the process has a second thread.
pub fn main() -> std::process::ExitCode {
    match run(crate::container::main) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {:#}", protocol::NAME, Chain(&*error));
            std::process::ExitCode::FAILURE
        }
    }
}

/// What a forked child becomes: it owns what the request brought and never returns.
pub type Child = fn(&Warm, protocol::Fork<OwnedFd>) -> !;

/// [`main()`] with a child of the caller's choice.
pub fn run(child: Child) -> Result<(), Box<dyn std::error::Error>> {
    signals::reset()?;
    // A session of its own: an interrupt typed at the front's terminal is not for containers. Fails for a leader of one.
    let _ = rustix::process::setsid();
    let listen = signals::take_stdin()?;
    crate::container::report_panics();
    // Before the milliseconds that the engine takes: a front may be gone by then, or have given the name to another.
    let watch = Watch::new(&listen);
    let warm = Warm::new()?;
    seclusion::enter()?;
    serve(&warm, listen, watch, child)?;
    Ok(())
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
