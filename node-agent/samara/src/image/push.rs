//! `samara push`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use samara_images::{Artifact, Credential, ImageConfig, Pusher, Reference, RegistryConfig, RootfsBuilder};

use super::auth;
use super::store::install_tls;
use crate::format::print;

/// What `samara push` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara push app.wasm registry.example/team/app:v1              # a Wasm artifact
  samara push --entrypoint /bin/app ./root registry.example/a:1  # an image with a root file system")]
pub(crate) struct PushArgs {
    /// A wasm file, or a directory that becomes the root file system
    from: PathBuf,
    /// Image reference
    image: String,
    /// Program to run, for a directory
    #[arg(long)]
    entrypoint: Option<String>,
}

/// Makes an image and sends it; what the registry has is not sent.
pub(crate) fn main(args: PushArgs) -> Result<ExitCode> {
    install_tls();
    let reference = Reference::parse(&args.image)?;
    let artifact = if args.from.is_dir() {
        let entrypoint = args.entrypoint.context("a directory needs --entrypoint: which program is to run?")?;
        let config = ImageConfig { entrypoint: vec![entrypoint], ..ImageConfig::default() };
        RootfsBuilder::new().config(config).tree("/", &args.from)?.build()?
    } else {
        Artifact::wasm(&args.from)?
    };
    let credential = auth::lookup(&reference)?.into_iter().next().unwrap_or(Credential::Anonymous);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let digest = runtime.block_on(Pusher::new(RegistryConfig::default()).push(&reference, &artifact, &credential))?;
    print(format!("{}\n", reference.at(digest)))?;
    Ok(ExitCode::SUCCESS)
}
