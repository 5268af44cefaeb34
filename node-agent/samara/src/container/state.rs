//! How it is going: `state.json`, written by the supervisor alone, and `stop.json`, by which others ask it to end.

use std::os::fd::OwnedFd;

use anyhow::Result;
use jiff::Timestamp;
use samara_shim_client::process;
use serde::{Deserialize, Serialize};

use super::record::Publication;

/// `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) supervisor: Option<Supervisor>,
    /// How often it was started again after it ended.
    pub(crate) restarts: u32,
    pub(crate) started_at: Option<Timestamp>,
    /// How it ended last.
    pub(crate) ended: Option<Ended>,
    /// With the host's ports that were found.
    pub(crate) ports: Vec<Publication>,
}

/// What the supervisor last did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Phase {
    /// Nothing yet, or it is at the beginning of a start.
    #[default]
    Created,
    Running,
    /// It waits before the next start.
    Restarting,
    Exited,
}

/// Who looks after it: pid and start time together name a process for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Supervisor {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    pub(crate) exit_code: u8,
    pub(crate) oom_killed: bool,
    /// A trap's message.
    pub(crate) message: Option<String>,
    pub(crate) finished_at: Timestamp,
}

impl Ended {
    /// Exit code of what never got to its guest.
    const NOT_SET_UP: u8 = 128;

    /// Before it ran, because of this signal to its supervisor.
    pub(crate) fn asked_for(signal: u32) -> Self {
        let exit_code = 128 + u8::try_from(signal).unwrap_or(0);
        Self { exit_code, oom_killed: false, message: None, finished_at: Timestamp::now() }
    }

    /// Why it ended, where that is not in its output: a guest's trap and its memory limit are written to its standard error.
    pub(crate) fn untold(&self) -> Option<&str> {
        let message = self.message.as_deref()?;
        (self.exit_code == Self::NOT_SET_UP || message.starts_with("Samara's own error")).then_some(message)
    }
}

/// `stop.json`: no restart after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StopRequest {
    pub(crate) signal: u32,
    /// Seconds until SIGKILL.
    pub(crate) grace: u32,
}

impl Supervisor {
    /// This process.
    pub(crate) fn me() -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Ok(Self { pid, start_time: process::start_time(pid)?.unwrap_or_default() })
    }

    /// `None` when it has ended.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        process::open(self.pid, self.start_time).ok().flatten().filter(|process| !has_ended(process))
    }
}

/// Also of one that nobody has waited for yet.
pub(super) fn has_ended(process: &OwnedFd) -> bool {
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}
