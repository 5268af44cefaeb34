//! Processes whose zygote is gone, or is another front's: the front sees their end itself.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::io::Interest;

use super::process::Process;
use super::watched::watch;
use samara_shim_client::bundle::ExitRecord;

/// Exit code of a process whose end nobody saw.
const UNKNOWN: u32 = 255;

/// How soon after a process's end its zygote, if that lives, has written the record.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// Waits for the end of `process` and records it if nobody else does. A process that is gone already gets `patience` in
/// which somebody may tell of it.
pub(crate) async fn until_recorded(pid: i32, process: Arc<Process>, patience: Duration) {
    let (outcome, patience) = match process.pidfd() {
        Some(pidfd) => match until_end(pidfd).await {
            // It was ours: nobody else can know more.
            Some(outcome) => (Some(outcome), Duration::ZERO),
            None => (None, RECORDED_WITHIN),
        },
        None => (None, patience),
    };
    // The zygote may have written the record and died before it told.
    let record = recorded_within(&process, patience).await;
    let record = record.unwrap_or_else(|| {
        let record = record_of(&process, pid, outcome);
        if let Err(error) = process.bundle.write_exit(&record) {
            tracing::error!(process = process.name(), %error, "record the end");
        }
        record
    });
    process.exited(record);
}

/// Exit code and whether it was killed; `None` if it was not our child.
pub(crate) async fn until_end(pidfd: OwnedFd) -> Option<Outcome> {
    let file = watch(pidfd, Interest::READABLE).ok()?;
    let ended = file.readable().await;
    drop(ended);
    let status = waitid(WaitId::PidFd(file.get_ref().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    let status = match status {
        Ok(status) => status?,
        Err(error) => {
            tracing::debug!(error = %io::Error::from(error), "not ours to reap");
            return None;
        }
    };
    let code = |number: i32| u32::try_from(number).unwrap_or(UNKNOWN);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(exit), _) => Some(Outcome { code: code(exit) & 0xff, killed: false }),
        (None, Some(signal)) => Some(Outcome { code: 128 + code(signal), killed: signal == libc::SIGKILL }),
        (None, None) => None,
    }
}

async fn recorded_within(process: &Process, patience: Duration) -> Option<ExitRecord> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let record = process.bundle.exit_record().ok().flatten();
        if record.is_some() || tokio::time::Instant::now() >= deadline {
            return record;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Processes that this one is the parent of.
pub(crate) fn children() -> io::Result<Vec<i32>> {
    let own = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
    Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Reaps those of `children` that are no container's process, when they end.
pub(crate) fn reap_others(children: Vec<i32>, processes: &[Arc<Process>]) {
    let own: Vec<_> = processes.iter().filter_map(|process| process.phase().pid()).collect();
    for pid in children.into_iter().filter(|pid| !own.contains(pid)).filter_map(Pid::from_raw) {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => drop(tokio::spawn(until_end(pidfd))),
            Err(error) => tracing::warn!(?pid, %error, "a child that nobody will reap"),
        }
    }
}

/// Waits for a child that is ending, and reaps it. One that does not end is reaped by nobody.
pub(crate) async fn ended_within(child: &std::process::Child, patience: Duration) {
    match pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        Ok(pidfd) => {
            if tokio::time::timeout(patience, until_end(pidfd)).await.is_err() {
                tracing::warn!(pid = child.id(), "a child that does not end");
            }
        }
        Err(error) => tracing::warn!(pid = child.id(), %error, "a child that nobody will reap"),
    }
}

pub(crate) struct Outcome {
    code: u32,
    /// By SIGKILL, which is also the kernel's way to end it for want of memory.
    killed: bool,
}

fn record_of(process: &Process, pid: i32, outcome: Option<Outcome>) -> ExitRecord {
    let report = process.report().unwrap_or_default();
    let killed = outcome.as_ref().is_some_and(|outcome| outcome.killed);
    let counted = || process.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kills().is_ok_and(|kills| kills > 0));
    ExitRecord {
        pid,
        exit_code: outcome.as_ref().map_or(UNKNOWN, |outcome| outcome.code),
        oom_killed: report.oom || (killed && counted()),
        message: report.message,
        exited_at_nanos: now(),
        seen: outcome.is_some(),
    }
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
