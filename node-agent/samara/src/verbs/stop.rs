//! `samara stop`: the stop signal, the grace, SIGKILL; and no restart.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};

use super::each::{each, runtime};
use crate::container::{Container, Phase, Shelf, StopRequest};
use crate::place::{Place, must_be_root};
use crate::supervise::Task;

/// What `samara stop` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara stop web
  samara stop -t 0 web            # at once
  samara stop $(samara ps -q)

A wasi:http guest finishes the requests it has; other guests end at once with 143 unless they ask to be told.")]
pub(crate) struct StopArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Seconds until SIGKILL [default: what `run --stop-timeout` said]
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    #[command(flatten)]
    place: Place,
}

/// Between two looks whether a container's lock is free.
pub(super) const LOOKS_EVERY: Duration = Duration::from_millis(10);

pub(crate) fn main(args: StopArgs) -> Result<ExitCode> {
    must_be_root("stop")?;
    let place = args.place.absolute()?;
    runtime()?.block_on(each(&Shelf::of(&place), &args.containers, async |container| {
        stop(&place, container, args.time).await
    }))
}

/// Ends it for good, also while it is being started. One that has ended is none the worse.
pub(crate) async fn stop(place: &Place, container: &Container, grace: Option<u32>) -> Result<()> {
    container.must_be_own()?;
    let record = &container.record;
    let request = StopRequest { signal: record.stop_signal, grace: grace.unwrap_or(record.stop_timeout) };
    loop {
        if let Some(supervisor) = supervisor(container)? {
            container.write_stop_request(&request)?;
            // It reads the request, carries it out, and ends.
            rustix::process::pidfd_send_signal(&supervisor, rustix::process::Signal::TERM)
                .context("tell its supervisor")?;
            return gone(supervisor).await;
        }
        // What has just been removed has ended.
        if !container.dir().exists() {
            return Ok(());
        }
        if let Some(_held) = container.try_lock()? {
            return end_alone(place, container, request).await;
        }
        // Whoever starts it has not got so far that it could be asked, or it is being removed.
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// Of one without a supervisor, which died if it runs; its lock is ours.
async fn end_alone(place: &Place, container: &Container, request: StopRequest) -> Result<()> {
    if container.pid()?.is_none() && container.state()?.phase != Phase::Running {
        return Ok(());
    }
    container.write_stop_request(&request)?;
    let task = Task::of(place, container)?;
    task.kill(if request.grace == 0 { 9 } else { request.signal }).await?;
    let in_time = tokio::time::timeout(Duration::from_secs(request.grace.into()), task.wait()).await;
    if in_time.is_err() {
        task.kill(9).await?;
    }
    let ended = task.wait().await?;
    let mut state = container.state()?;
    (state.phase, state.ended) = (Phase::Exited, Some(ended));
    container.write_state(&state)?;
    task.clear().await
}

/// The process that looks after it, if that lives.
pub(super) fn supervisor(container: &Container) -> Result<Option<OwnedFd>> {
    Ok(container.state()?.supervisor.and_then(crate::container::Supervisor::open))
}

/// Waits until a process is gone.
pub(super) async fn gone(process: OwnedFd) -> Result<()> {
    let wait = move || loop {
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], None) {
            Err(rustix::io::Errno::INTR) => {}
            done => return done,
        }
    };
    tokio::task::spawn_blocking(wait).await?.map(drop).context("wait for a process")
}
