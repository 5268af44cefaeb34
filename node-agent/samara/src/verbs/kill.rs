//! `samara kill`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::each::{each, runtime};
use super::signal;
use crate::container::{Shelf, StopRequest};
use crate::place::{Place, must_be_root};
use crate::supervise::Task;

/// What `samara kill` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara kill web
  samara kill -s TERM web

SIGKILL also ends restarts; another signal is only passed on.")]
pub(crate) struct KillArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Which signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: KillArgs) -> Result<ExitCode> {
    must_be_root("kill")?;
    let place = args.place.absolute()?;
    let signal = signal::parse(&args.signal)?;
    runtime()?.block_on(each(&Shelf::of(&place), &args.containers, async |container| {
        if container.pid()?.is_none() {
            bail!("it does not run");
        }
        if signal == 9 && container.front().is_none() {
            container.write_stop_request(&StopRequest { signal, grace: 0 })?;
        }
        Task::of(&place, container)?.kill(signal).await
    }))
}
