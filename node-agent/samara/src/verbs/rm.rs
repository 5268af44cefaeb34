//! `samara rm`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::each::{each, runtime};
use super::stop::stop;
use crate::container::{Container, Shelf};
use crate::place::{Place, must_be_root};
use crate::supervise::Task;

/// What `samara rm` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara rm web
  samara rm -f $(samara ps -aq)     # running ones too

Named volumes stay: `samara system prune --volumes` removes those that no container uses.")]
pub(crate) struct RmArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Kill it if it runs; no error if there is none
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: RmArgs) -> Result<ExitCode> {
    must_be_root("rm")?;
    let place = args.place.absolute()?;
    let shelf = Shelf::of(&place);
    let mut names = args.containers;
    if args.force {
        names.retain(|name| shelf.find(name).is_ok());
    }
    runtime()?.block_on(each(&shelf, &names, async |container| remove(&place, container, args.force).await))
}

/// With all that is left of it.
pub(crate) async fn remove(place: &Place, container: &Container, force: bool) -> Result<()> {
    container.must_be_own()?;
    if container.status()?.is_up() {
        if !force {
            bail!("it runs: `samara stop {name}` first, or `samara rm -f {name}`", name = container.record.name);
        }
        stop(place, container, Some(0)).await?;
    }
    // Of one with --rm nothing is left by now.
    Task::of(place, container)?.clear().await?;
    Shelf::of(place).remove(container)
}
