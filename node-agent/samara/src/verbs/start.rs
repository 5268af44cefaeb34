//! `samara start` and `samara restart`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::each::{each, runtime};
use super::stop::{LOOKS_EVERY, stop};
use crate::container::{Container, Shelf, Status};
use crate::place::{Place, must_be_root};
use crate::supervise::{Task, monitor};

/// What `samara start` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara start web

It runs detached, with the flags of its `samara run` and the files it left.")]
pub(crate) struct StartArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// What `samara restart` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara restart -t 1 web")]
pub(crate) struct RestartArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Seconds until SIGKILL [default: what `run --stop-timeout` said]
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: StartArgs) -> Result<ExitCode> {
    must_be_root("start")?;
    let place = args.place.absolute()?;
    runtime()?.block_on(each(&Shelf::of(&place), &args.containers, async |container| {
        container.must_be_own()?;
        start(&place, container).await
    }))
}

pub(crate) fn restart(args: RestartArgs) -> Result<ExitCode> {
    must_be_root("restart")?;
    let place = args.place.absolute()?;
    runtime()?.block_on(each(&Shelf::of(&place), &args.containers, async |container| {
        if container.record.remove && container.status()?.is_up() {
            bail!("it is removed when it ends (--rm), so it cannot be started again");
        }
        stop(&place, container, args.time).await?;
        start(&place, container).await
    }))
}

/// Returns when it runs, whoever started it.
async fn start(place: &Place, container: &Container) -> Result<()> {
    let held = loop {
        if let Status::Running { .. } | Status::Restarting { .. } = container.status()? {
            return Ok(());
        }
        if let Some(held) = container.try_lock()? {
            break held;
        }
        // It is being started, ended or removed.
        tokio::time::sleep(LOOKS_EVERY).await;
    };
    // Since it was looked at it may have been started; of one whose supervisor knows no lock this is all there is.
    if container.status()?.is_up() {
        return Ok(());
    }
    // After a supervisor that died, or a boot.
    Task::of(place, container)?.clear().await?;
    container.bundle().remove_records()?;
    container.forget_stop_request()?;
    monitor::spawn(place, container, &held)
}
