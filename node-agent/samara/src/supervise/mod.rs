//! Looking after one container: making it, passing signals on, waiting, starting it again.
//!
//! ```text
//!            ┌──────────────────────── restart after a while ◀────────────────┐
//!            ▼                                                                │
//!  create ▸ start ▸ running ──(SIGTERM to us: stop signal, grace, SIGKILL)──▶ ended ─▶ exited
//! ```
//!
//! Whether it is started again is decided in [`restart`]; `samara run` ([`attached`]) does it for one life and with this
//! terminal's streams, the process `samara-monitor` ([`monitor`]) for all further ones and with a log.

pub(crate) mod attached;
pub(crate) mod log;
pub(crate) mod monitor;
mod output;
pub(crate) mod ports;
pub(crate) mod restart;
mod signals;
pub(crate) mod stop;
pub(crate) mod streams;
pub(crate) mod task;
pub(crate) mod terminal;

pub(crate) use signals::Signals;
pub(crate) use task::Task;
