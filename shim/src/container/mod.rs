//! The container: a zygote's child that carries a [`crate::plan::ContainerPlan`] out and then is the guest.
//!
//! ```text
//! clean ─ plan ─ cgroups ─ load code ─ namespaces ─ mounts ─ pivot_root ─ identity ─ landlock ─ seccomp ─ control thread
//!   │                                                                                                         │
//!   └── any failure: its reason into status pipe and report, exit 128            status pipe closed: ready ───┤
//!                                                                                                             ▼
//!                                  exit code ◀─ report ◀─ the guest runs ◀─ `start` over the control socket ─ wait
//! ```
//!
//! The order is given by what each step takes away: the cgroup comes before anything is allocated, code is loaded while
//! memory may still become executable and `/proc` is there to find it by, mounts are made before the capability to mount is
//! gone, and the filters come last. The pools of instances are the zygote's, reserved before the fork
//! (`docs/decisions/0009`).

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use samara_runtime::Exit;

use crate::plan::Report;
use crate::zygote::Warm;
use crate::zygote::protocol::Fork;

mod cgroups;
pub mod control;
mod error;
mod files;
mod filesystem;
mod guest;
mod hygiene;
mod identity;
mod kernel;
mod landlock;
mod namespaces;
mod resolve;
mod seccomp;
mod setup;

pub use error::SetUpError;
pub use setup::Ready;

pub(crate) use hygiene::report_panics;
pub(crate) use kernel::unshare;
pub(crate) use seccomp::{Filter, FilterError};

/// Exit code of a container that could not be set up, as container runtimes have it.
pub const NOT_SET_UP: u8 = 128;

/// Exit code after an error of Samara's own while the guest ran: as an abort's.
const PANICKED: u8 = 134;

/// The whole life of a container process.
pub fn main(warm: &Warm, fork: Fork<OwnedFd>) -> ! {
    run(warm, fork, |ready| ready.live(&warm.host))
}

/// Sets a container up, then lets it `live`, and ends the process with its exit.
pub fn run(warm: &Warm, fork: Fork<OwnedFd>, live: impl FnOnce(Ready) -> Exit) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| set_up_and_live(warm, fork, live)));
    // The reason of a panic was reported by the hook.
    kernel::exit(outcome.unwrap_or(PANICKED))
}

fn set_up_and_live(warm: &Warm, fork: Fork<OwnedFd>, live: impl FnOnce(Ready) -> Exit) -> u8 {
    let cleaned = hygiene::clean(warm, &fork);
    let Fork { request: _, pid_namespace, bundle, report, status, plan, oom_counter, files } = fork;
    // The zygote's part: a guest has no file of its bundle.
    drop((pid_namespace, bundle, oom_counter));
    let report = hygiene::report_panics_to(report);
    let ready = cleaned.map_err(SetUpError::from).and_then(|()| setup::set_up(warm, &plan, files));
    drop(plan);
    let exit = match ready {
        Ok(ready) => {
            drop(status);
            live(ready)
        }
        Err(error) => {
            let message = error.with_causes();
            let fits = &message[..message.floor_char_boundary(4096)];
            // If the front is gone, the report still says it.
            let _ = rustix::io::write(&status, fits.as_bytes());
            Exit { code: NOT_SET_UP, oom: false, message: Some(message) }
        }
    };
    let told = Report { oom: exit.oom, message: exit.message };
    if told != Report::default() {
        // The exit code is still right without it.
        let _ = told.write(report);
    }
    exit.code
}
