//! `samara pull`, `push` and `images`: the image store of this machine, by hand.

mod progress;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use samara_images::{
    Artifact, Credential, Image, ImageConfig, ImageStore, Puller, PullerConfig, Pusher, Reference, RegistryConfig,
    RootfsBuilder,
};

use self::progress::Shown;

/// Where images are.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Images and compiled code
    #[arg(long, default_value = "/var/lib/samara", env = "SAMARA_ROOT_DIR")]
    root_dir: PathBuf,
}

/// What `samara pull` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  samara pull registry.example/team/app:v1")]
pub(crate) struct PullArgs {
    /// Image reference
    image: String,
    #[command(flatten)]
    store: StoreArgs,
}

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

/// What `samara images` takes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) fn pull(args: PullArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let image = runtime.block_on(present_or_pulled(&args.store.root_dir, &args.image, true))?;
    writeln!(std::io::stdout(), "{}", image.pinned())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn push(args: PushArgs) -> Result<ExitCode> {
    install_tls();
    let reference = Reference::parse(&args.image)?;
    let artifact = if args.from.is_dir() {
        let entrypoint = args.entrypoint.context("a directory needs --entrypoint: which program is to run?")?;
        let config = ImageConfig { entrypoint: vec![entrypoint], ..ImageConfig::default() };
        RootfsBuilder::new().config(config).tree("/", &args.from)?.build()?
    } else {
        Artifact::wasm(&args.from)?
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pusher = Pusher::new(RegistryConfig::default());
    let digest = runtime.block_on(pusher.push(&reference, &artifact, &Credential::Anonymous))?;
    writeln!(std::io::stdout(), "{}", reference.at(digest))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn list(args: ListArgs) -> Result<ExitCode> {
    let store = open(&args.store.root_dir)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<60} {:<20} {:>12}", "IMAGE", "DIGEST", "SIZE")?;
    for image in store.list()? {
        let digest = image.digest.as_str().chars().take(19).collect::<String>();
        for reference in &image.references {
            writeln!(out, "{:<60} {digest:<20} {:>12}", reference.to_string(), indicatif::HumanBytes(image.size))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// From the store, or from its registry if it is not there or `always`.
pub(crate) async fn present_or_pulled(root_dir: &Path, name: &str, always: bool) -> Result<Image> {
    let reference = Reference::parse(name)?;
    let store = open(root_dir)?;
    if !always && let Some(image) = store.get(&reference)? {
        return Ok(image);
    }
    install_tls();
    let shown = Shown::new(&reference);
    let image = Puller::new(store, PullerConfig::default()).pull(&reference, &[], &shown).await?;
    shown.done();
    Ok(image)
}

fn open(root_dir: &Path) -> Result<ImageStore> {
    let dir = root_dir.join("images");
    ImageStore::open(&dir).with_context(|| format!("open the image store {}", dir.display()))
}

/// The one TLS provider of this process.
pub(crate) fn install_tls() {
    // Fails only if there is one already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
