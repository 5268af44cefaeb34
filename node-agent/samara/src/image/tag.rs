//! `samara tag`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use samara_images::Reference;

use super::store;
use crate::place::Place;

/// What `samara tag` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  samara tag registry.example/app:v1 registry.example/app:stable")]
pub(crate) struct TagArgs {
    /// An image that is here
    image: String,
    /// Another name for it
    name: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: TagArgs) -> Result<ExitCode> {
    let (image, name) = (Reference::parse(&args.image)?, Reference::parse(&args.name)?);
    if !store::open(&args.place.absolute()?)?.tag(&image, &name)? {
        bail!("{image} is not here: `samara pull {}` fetches it, `samara images` lists what is", args.image);
    }
    Ok(ExitCode::SUCCESS)
}
