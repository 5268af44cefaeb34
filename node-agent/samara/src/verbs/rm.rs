//! `samara rm`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::each::{each_found, runtime};
use super::stop::stop;
use crate::container::{Container, NoSuchContainer, Shelf, State};
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
    let find = |name: &str| match args.force {
        true => passed_over_if_missing(shelf.find_to_remove(name)),
        false => shelf.find(name).map(Some),
    };
    let work = async |container: &Container| remove(&place, container, args.force).await;
    runtime()?.block_on(each_found(&args.containers, find, work))
}

fn passed_over_if_missing(found: Result<Container>) -> Result<Option<Container>> {
    match found {
        Err(error) if error.is::<NoSuchContainer>() => Ok(None),
        found => found.map(Some),
    }
}

/// With all that is left of it.
async fn remove(place: &Place, container: &Container, force: bool) -> Result<()> {
    container.must_be_own()?;
    if force {
        forget_damage(container)?;
    }
    loop {
        if force {
            stop(place, container, Some(0)).await?;
        }
        // Of one with --rm nothing is left by now.
        if !container.dir().exists() || remove_ended(place, container).await? {
            return Ok(());
        }
        if !force {
            bail!("it runs: `samara stop {name}` first, or `samara rm -f {name}`", name = container.record.name);
        }
    }
}

/// What is written of its life and cannot be read is that of nobody, for instance of before the power failed.
fn forget_damage(container: &Container) -> Result<()> {
    if container.status().is_err()
        && let Some(_held) = container.try_lock()?
    {
        container.bundle().remove_records()?;
        container.write_state(&State::default())?;
    }
    Ok(())
}

/// `false`: somebody starts it, looks after it or removes it, or it runs.
pub(crate) async fn remove_ended(place: &Place, container: &Container) -> Result<bool> {
    let Some(_held) = container.try_lock()? else { return Ok(false) };
    if container.status()?.is_up() {
        return Ok(false);
    }
    Task::of(place, container)?.clear().await?;
    Shelf::of(place).remove(container)?;
    Ok(true)
}
