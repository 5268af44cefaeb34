//! `samara build`: an image of a wasm file and what it needs. The same input gives the same digest.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use samara_images::{Artifact, ImageConfig, Import, Puller, PullerConfig, Reference, RootfsBuilder};

use super::progress::Shown;
use super::store;
use crate::format::print;
use crate::place::Place;

/// What `samara build` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara build -t registry.example/app:v1 app.wasm                        # a Wasm artifact
  samara build -t registry.example/app:v1 --add ./static:/www app.wasm    # with files: an image with a root
  samara build -t registry.example/app:v1 --entrypoint /bin/app ./root    # a directory as the root

It prints the image's digest. Without -t nothing is kept: a way to ask for the digest. `samara push NAME` sends it.")]
pub(crate) struct BuildArgs {
    /// A wasm file, or a directory that becomes the root file system
    from: PathBuf,
    /// Its name in the image store
    #[arg(short, long, value_name = "NAME")]
    tag: Option<String>,
    /// Add a file or directory of this machine
    #[arg(long, value_name = "HOST:GUEST")]
    add: Vec<String>,
    /// Program to run [default for a file: the file]
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// An argument that `run` replaces; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// Environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Note on the image
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User it runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: BuildArgs) -> Result<ExitCode> {
    let artifact = make(&args)?;
    if let Some(name) = &args.tag {
        let name = Reference::parse(name)?;
        keep(&args.place.absolute()?, &artifact, &name)?;
    }
    print(format!("{}\n", artifact.digest()))?;
    Ok(ExitCode::SUCCESS)
}

/// The plainest image that holds what is asked for.
fn make(args: &BuildArgs) -> Result<Artifact> {
    let config = config(args)?;
    let is_dir = args.from.is_dir();
    if !is_dir && args.add.is_empty() && config == ImageConfig::default() {
        return Ok(Artifact::wasm(&args.from)?);
    }
    let mut root = RootfsBuilder::new();
    let mut config = config;
    if is_dir {
        if config.entrypoint.is_empty() {
            bail!("a directory needs --entrypoint: which program is to run?");
        }
        root = root.tree("/", &args.from)?;
    } else {
        // What is not wasm is refused as it would be alone.
        Artifact::wasm(&args.from)?;
        let name = args.from.file_name().context("the wasm file has no name")?.to_string_lossy().into_owned();
        let path = format!("/{name}");
        root = root.file(&path, &args.from, 0o755)?;
        if config.entrypoint.is_empty() {
            config.entrypoint = vec![path];
        }
    }
    for text in &args.add {
        let (from, to) = addition(text)?;
        root = match from.is_dir() {
            true => root.tree(to, from)?,
            false => root.file(to, from, 0o644)?,
        };
    }
    Ok(root.config(config).build()?)
}

fn config(args: &BuildArgs) -> Result<ImageConfig> {
    for text in &args.env {
        if text.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            bail!("--env {text}: write NAME=VALUE; an image takes nothing from here");
        }
    }
    Ok(ImageConfig {
        entrypoint: args.entrypoint.iter().cloned().collect(),
        cmd: args.cmd.clone(),
        env: args.env.clone(),
        working_dir: args.workdir.clone().unwrap_or_default(),
        user: args.user.clone().unwrap_or_default(),
        labels: args.label.iter().map(|text| crate::run::env::label(text)).collect::<Result<_>>()?,
        ..ImageConfig::default()
    })
}

/// `HOST:GUEST`.
fn addition(text: &str) -> Result<(&Path, &str)> {
    match text.rsplit_once(':') {
        Some((from, to)) if !from.is_empty() && to.starts_with('/') => Ok((Path::new(from), to)),
        _ => bail!("--add {text}: write HOST:GUEST, and the guest's path from /"),
    }
}

/// Makes an image of a wasm file, for those who need one, and gives its name.
pub(crate) async fn of_file(place: &Place, file: &str) -> Result<String> {
    let artifact = Artifact::wasm(Path::new(file)).with_context(|| format!("image {file}"))?;
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let part: String = stem.chars().filter(char::is_ascii_alphanumeric).collect();
    let tag: String = artifact.digest().to_string().chars().skip("sha256:".len()).take(12).collect();
    let name = format!("localhost/file-{}:{tag}", if part.is_empty() { "wasm" } else { &part });
    take_in(place, &artifact, &Reference::parse(&name)?).await?;
    Ok(name)
}

fn keep(place: &Place, artifact: &Artifact, name: &Reference) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(take_in(place, artifact, name))
}

async fn take_in(place: &Place, artifact: &Artifact, name: &Reference) -> Result<()> {
    let layout = tempfile::tempdir().context("make a directory for the image")?;
    artifact.write_layout(layout.path())?;
    let puller = Puller::new(store::open(place)?, PullerConfig::default());
    let (from, shown) = (Import::Directory(layout.path().to_owned()), Shown::silent());
    let imported = puller.import(from, Some(name), &shown).await?;
    if imported.is_empty() {
        bail!("the image was not taken into the store");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addition_has_two_sides() {
        assert_eq!(addition("a:/b").unwrap(), (Path::new("a"), "/b"));
        assert_eq!(addition("/a:b:/c").unwrap(), (Path::new("/a:b"), "/c"));
        for bad in ["", "a", ":/b", "a:b", "a:"] {
            assert!(addition(bad).is_err(), "{bad}");
        }
    }
}
