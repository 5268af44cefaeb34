//! `samara pull`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use samara_images::Reference;

use super::registries::Registries;
use super::store;
use crate::format::print;
use crate::place::Place;

/// What `samara pull` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara pull registry.example/team/app:v1
  samara pull -q ghcr.io/team/app@sha256:...      # prints the pinned name and nothing else
  samara pull --plain-registry nas.lan:5000 nas.lan:5000/app:v1
  samara pull --registry-config-dir /etc/containerd/certs.d registry.example/team/app:v1

Credentials are docker's: `samara login`, or what `docker login` left. Registries on this machine are spoken to without TLS.")]
pub(crate) struct PullArgs {
    /// Image references
    #[arg(required = true)]
    images: Vec<String>,
    /// No bar
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    place: Place,
}

/// Asks the registry even if the image is here; what is here already is not fetched again.
pub(crate) fn main(args: PullArgs) -> Result<ExitCode> {
    let place = args.place.absolute()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for name in &args.images {
        let reference = Reference::parse(name)?;
        let image = runtime.block_on(store::fetch(store::open(&place)?, &args.registries, &reference, args.quiet))?;
        print(format!("{}\n", image.pinned()))?;
    }
    Ok(ExitCode::SUCCESS)
}
