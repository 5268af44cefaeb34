//! `samara rename`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::container::Shelf;
use crate::place::Place;

/// What `samara rename` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara rename brisk_otter_42 web

It need not be stopped. The host name that the guest sees stays.")]
pub(crate) struct RenameArgs {
    /// Name or id
    container: String,
    /// What it is to be called
    name: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: RenameArgs) -> Result<ExitCode> {
    let shelf = Shelf::of(&args.place.absolute()?);
    let container = shelf.find(&args.container)?;
    container.must_be_own()?;
    shelf.rename(&container, &args.name)?;
    Ok(ExitCode::SUCCESS)
}
