//! `samara push`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use samara_images::{Artifact, Credential, ImageConfig, Pusher, Reference, RootfsBuilder};

use super::auth;
use super::progress::Shown;
use super::registries::Registries;
use super::store::{self, install_tls};
use crate::format::print;
use crate::place::Place;

/// What `samara push` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara push registry.example/team/app:v1                       # an image that is here
  samara push app.wasm registry.example/team/app:v1              # a Wasm artifact of a file
  samara push --entrypoint /bin/app ./root registry.example/a:1  # an image with a root file system")]
pub(crate) struct PushArgs {
    /// An image that is here; or, with a name behind it, a wasm file or a directory that becomes the root file system
    #[arg(value_name = "IMAGE|FILE")]
    from: PathBuf,
    /// Image reference
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// Program to run, for a directory
    #[arg(long)]
    entrypoint: Option<String>,
    /// No bar
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    place: Place,
}

/// Makes an image and sends it; what the registry has is not sent.
pub(crate) fn main(args: PushArgs) -> Result<ExitCode> {
    install_tls();
    let (reference, artifact) = match &args.image {
        Some(image) => (Reference::parse(image)?, made(&args.from, args.entrypoint)?),
        None => {
            let name = args.from.to_string_lossy();
            if args.from.is_file() {
                bail!("{name} is a file: `samara push {name} NAME` says what the image is to be called");
            }
            let reference = Reference::parse(&name)?;
            let store = store::open(&args.place.absolute()?)?;
            let missing =
                || format!("{reference} is not here: `samara images` lists what is, `samara build -t` makes one");
            let artifact = Artifact::stored(&store, &reference)?.with_context(missing)?;
            (reference, artifact)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let digest = runtime.block_on(async {
        let credential = auth::lookup(&reference).await?.into_iter().next().unwrap_or(Credential::Anonymous);
        let pusher = Pusher::new(args.registries.config()?);
        let shown = Shown::new(format_args!("sending {reference}"), args.quiet);
        anyhow::Ok(pusher.push(&reference, &artifact, &credential, &shown).await?)
    })?;
    print(format!("{}\n", reference.at(digest)))?;
    Ok(ExitCode::SUCCESS)
}

fn made(from: &Path, entrypoint: Option<String>) -> Result<Artifact> {
    if !from.is_dir() {
        return Ok(Artifact::wasm(from)?);
    }
    let entrypoint = entrypoint.context("a directory needs --entrypoint: which program is to run?")?;
    let config = ImageConfig { entrypoint: vec![entrypoint], ..ImageConfig::default() };
    Ok(RootfsBuilder::new().config(config).tree("/", from)?.build()?)
}
