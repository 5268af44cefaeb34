//! The processes a zygote is the parent of, and how their ends are judged.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use super::protocol::Reply;
use super::record;
use crate::plan::Report;

/// One process until it is reaped.
#[derive(Debug)]
pub(super) struct Running {
    /// The front's number for it.
    pub(super) request: u64,
    pub(super) bundle: OwnedFd,
    pub(super) report: OwnedFd,
    pub(super) oom: Option<OomCounter>,
}

/// A cgroup's `oom_kill` counter, and where it stood when the process was forked into it.
#[derive(Debug)]
pub(super) struct OomCounter {
    file: OwnedFd,
    before: u64,
}

/// By pid.
#[derive(Debug, Default)]
pub(super) struct Children(BTreeMap<i32, Running>);

impl Children {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, pid: Pid, running: Running) {
        self.0.insert(pid.as_raw_nonzero().get(), running);
    }

    /// Reaps all that have ended, writes their records, and gives what is to be told of them.
    pub(super) fn reap(&mut self) -> Vec<Reply> {
        let mut exited = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(running) = self.0.remove(&pid.as_raw_nonzero().get()) else {
                continue;
            };
            let report = Report::read(&running.report);
            let kills = running.oom.as_ref().is_some_and(OomCounter::moved);
            let end = End::judge(Ended::from(status), &report, kills);
            // Nothing more can be done about a bundle that is gone or full; the front is told all the same.
            if let Err(error) = record::exit(&running.bundle, pid, end.exit_code, end.oom, report.message) {
                eprintln!("samara-zygote: write exit.json of process {pid:?}: {error}");
            }
            exited.push(Reply::Exited {
                request: running.request,
                pid: pid.as_raw_nonzero().get(),
                exit_code: end.exit_code,
                oom: end.oom,
            });
        }
        exited
    }
}

impl OomCounter {
    pub(super) fn new(file: OwnedFd) -> Self {
        let before = oom_kills(&file).unwrap_or(0);
        Self { file, before }
    }

    /// An exec shares its container's counter, so the two cannot be told apart if one is killed for memory and the other
    /// by hand at the same time.
    fn moved(&self) -> bool {
        oom_kills(&self.file).is_some_and(|now| now > self.before)
    }
}

fn oom_kills(file: impl AsFd) -> Option<u64> {
    let mut bytes = [0; 512];
    let length = rustix::io::pread(file, &mut bytes[..], 0).ok()?;
    parse_oom_kills(std::str::from_utf8(&bytes[..length]).ok()?)
}

/// v1 `memory.oom_control` and v2 `memory.events` alike have a line `oom_kill <count>`.
fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// What the kernel says of an end.
#[derive(Debug, Clone, Copy)]
enum Ended {
    Exited(i32),
    Killed(i32),
    Unknown,
}

impl From<WaitStatus> for Ended {
    fn from(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Killed(signal),
            (None, None) => Self::Unknown,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct End {
    exit_code: u8,
    oom: bool,
}

impl End {
    const SIGKILL: i32 = 9;

    /// The report is the process's own word and believed for what it can know; that the kernel killed it for memory is
    /// seen in the counter.
    fn judge(ended: Ended, report: &Report, kernel_killed: bool) -> Self {
        match ended {
            Ended::Exited(code) => Self { exit_code: (code & 0xff) as u8, oom: report.oom },
            Ended::Killed(signal) => Self {
                exit_code: 128 + (signal & 0x7f) as u8,
                oom: signal == Self::SIGKILL && (kernel_killed || report.oom),
            },
            Ended::Unknown => Self { exit_code: 255, oom: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXITED_7: Ended = Ended::Exited(7);
    const KILLED: Ended = Ended::Killed(9);
    const ABORTED: Ended = Ended::Killed(6);

    fn judge(ended: Ended, oom: bool, kernel_killed: bool) -> (u8, bool) {
        let report = Report { oom, message: None };
        let end = End::judge(ended, &report, kernel_killed);
        (end.exit_code, end.oom)
    }

    #[test]
    fn an_exit_code_is_the_process_s_own() {
        assert_eq!(judge(EXITED_7, false, false), (7, false));
    }

    #[test]
    fn a_killed_process_is_out_of_memory_only_if_the_counter_moved_or_it_said_so() {
        assert_eq!(judge(KILLED, false, false), (137, false));
        assert_eq!(judge(KILLED, false, true), (137, true));
        assert_eq!(judge(KILLED, true, false), (137, true));
    }

    #[test]
    fn a_moved_counter_does_not_make_another_end_an_end_for_memory() {
        assert_eq!(judge(EXITED_7, false, true), (7, false));
        assert_eq!(judge(ABORTED, false, true), (134, false));
    }

    #[test]
    fn the_counter_is_found_in_both_versions_files() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 1\n"), Some(1));
        assert_eq!(parse_oom_kills("oom_kill many\n"), None);
        assert_eq!(parse_oom_kills(""), None);
    }
}
