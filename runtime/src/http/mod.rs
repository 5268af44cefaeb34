//! `wasi:http/proxy` guests: a server around them, and their way out.
//!
//! ```text
//!             io thread                              ceil(cpus) workers
//!  accept ─▶ connection ─▶ service ──▶ Queue ──▶ instance per request ──▶ guest
//!                             ▲                          │
//!                             └──── response, body ◀─────┘
//! ```
//!
//! A guest that computes keeps its worker, never the io thread: connections are still accepted, and who waits too long
//! is answered 504. When every worker computes past the time limit the process ends ([`watch`]).

mod answer;
mod bell;
mod dial;
mod drain;
mod exchange;
mod idle;
mod instance;
mod listen;
mod outbound;
mod queue;
mod request;
mod server;
mod trust;
mod watch;
mod wire;
mod worker;

pub(crate) use outbound::Outbound;
pub(crate) use server::serve;
pub(crate) use trust::Trust;
