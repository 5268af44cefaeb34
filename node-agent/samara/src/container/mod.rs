//! A container of the command line, as it stands on disk. There is no daemon: a container is a directory.
//!
//! ```text
//!  <root-dir>/containers/<id>/   config.json      what the front makes of it (OCI)
//!                                container.json   what the user asked for       [Record]     written once
//!                                state.json       how it is going               [State]      by its supervisor
//!                                stop.json        how it is to end              [StopRequest] by who wants that
//!                                lock             whoever starts, looks after, ends or removes it   [Held]
//!                                log/ctr.log      its output, with times (CRI)
//!                                rootfs/ upper/ work/
//!  <root-dir>/containers/names/<name> -> ../<id>
//!  <run-dir>/cli/<id>/           its front
//! ```
//!
//! The supervisor of a container is the `samara run` that it is attached to, or for `-d` a process of its own,
//! `samara-monitor`. If that dies the container lives on, and every verb still works; only nobody restarts it.

mod file;
mod lock;
mod name;
mod names;
mod record;
mod shelf;
mod state;
mod status;

pub(crate) use lock::Held;
pub(crate) use name::{check_name, random_name};
pub(crate) use names::NameTaken;
pub(crate) use record::{Network, Protocol, Publication, Record};
pub(crate) use shelf::{Container, Member, NoSuchContainer, Shelf, ended};
pub(crate) use state::{Ended, Phase, State, StopRequest, Supervisor};
pub(crate) use status::Status;
