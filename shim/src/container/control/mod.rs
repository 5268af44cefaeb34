//! Front and container: one unix stream connection to `control.sock` of the bundle, served by a thread of the
//! container's own even while the guest spins.
//!
//! Every message is a length (`u32`, little endian, at most [`MAX_MESSAGE`]) and JSON; a file descriptor travels beside
//! the length. The container says [`Hello`] first, and beside it sends its terminal's master if it has one. Commands carry a number that comes back in their answer; events have
//! none and may stand between. A front that connects while another is connected replaces it, and learns from `Hello`
//! what it missed; so does one whose connection was lost. A container that says too much is heard slowly.
//!
//! ```text
//! front  ◀─ hello{version, state, listening} ─ container
//! front  ── {id, start} ─────────────────────▶ container    the guest begins
//! front  ◀─ {id, done} ─────────────────────── container
//! front  ◀─ event listening{address} ───────── container
//! front  ── {id, output{stdout}} + file ─────▶ container    a rotated log
//! front  ── {id, stop{signal, grace}} ───────▶ container    "draining", or the process ends with 128 + signal at once
//! ```

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

mod allowance;
mod client;
mod frame;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod hearing;
pub(crate) mod serve;
mod spare;

pub use client::{Connected, Control, ControlError, connect, listen};

/// Spoken here.
pub const VERSION: u32 = 1;

/// Longest message in bytes.
pub const MAX_MESSAGE: u32 = 64 << 10;

/// Listening sockets of a guest that a front is told of: it may listen and close for ever.
pub const MOST_LISTENING: usize = 64;

/// First message of every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// What the guest is doing.
    pub state: State,
    /// Sockets of the guest that listen or listened, in order.
    pub listening: Vec<SocketAddr>,
    /// What could not be done as the plan says and was not worth an end (`oom_score_adj` without the capability, a kernel without
    /// Landlock).
    pub warnings: Vec<String>,
}

/// A guest's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Set up; waits for [`Command::Start`].
    Ready,
    Running,
    /// Was asked to stop and is ending by itself.
    Draining,
}

/// A command, on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    pub command: Command,
}

/// What a front may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// Let the guest begin. Twice is once.
    Start,
    /// End: by itself within the grace period if it can, else at once with 128 + signal, unanswered.
    #[serde(rename_all = "camelCase")]
    Stop { signal: u8, grace_millis: u64 },
    /// Write this stream to the file that comes with the command from now on.
    Output { stream: Stream },
    /// Let the guest have so many bytes of memory from now on; without a number, as many as the kernel gives.
    Memory { limit: Option<u64> },
    /// Let the guest read end of file from its input from its next read on.
    CloseStdin,
}

/// A stream of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    Stdout,
    Stderr,
    /// One file for the two.
    Both,
}

/// What a container says after [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// The command is carried out, and this is the state after it.
    Done {
        id: u64,
        state: State,
    },
    /// The command is refused.
    Refused {
        id: u64,
        reason: String,
    },
    Event(Event),
}

/// What happened in a container without being asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// A socket of the guest listens.
    Listening { address: SocketAddr },
    /// The guest has ended, and the process ends now.
    Ended { exit_code: u8, oom: bool },
}
