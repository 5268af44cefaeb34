//! The shim: three roles in three processes.
//!
//! ```text
//!  containerd or agent ──ttrpc──▶ front ──seqpacket──▶ zygote ──fork──▶ container (guest)
//!                                   │                                      ▲
//!                                   └────────── control.sock ──────────────┘
//! ```
//!
//! The front **decides** (a bundle becomes a [`plan::ContainerPlan`] and a list of open files), the zygote forks, the
//! container **does** (it carries the plan out and then is the guest).

pub mod container;
pub mod front;
pub mod plan;
pub mod zygote;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use samara_shim_client::front::SHIM_NAME;

/// Which of the shim's processes this is, by the last part of `argv[0]`, and its whole life; `None` if it is none of
/// them. To be called before the process has a second thread. (The compile worker is the runtime's.)
pub fn dispatch(argv0: &OsStr, args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let name = std::path::Path::new(argv0).file_name()?.to_str()?;
    match name {
        SHIM_NAME => Some(front::main(args)),
        zygote::protocol::NAME => Some(zygote::main()),
        _ => None,
    }
}
