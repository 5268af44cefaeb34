//! `samara start` and `samara restart`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::each::{each, runtime};
use super::stop::stop;
use crate::container::{Container, Shelf};
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
        if container.status()?.is_up() {
            return Ok(());
        }
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

async fn start(place: &Place, container: &Container) -> Result<()> {
    // After a supervisor that died, or a boot.
    Task::of(place, container)?.clear().await?;
    container.bundle().remove_records()?;
    container.forget_stop_request()?;
    monitor::spawn(place, container)
}
