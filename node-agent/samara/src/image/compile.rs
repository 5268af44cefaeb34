//! `samara compile`: into the code cache, so that the first start need not wait. Nothing else can be compiled to: code
//! from elsewhere is never loaded.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use samara_images::{Content, Digest};
use samara_runtime::{CodeCache, code};

use super::registries::Registries;
use super::store;
use crate::format::print;
use crate::place::{Place, must_be_root};
use crate::run::Pull;

/// What `samara compile` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara compile app.wasm
  samara compile registry.example/app:v1      # fetched if it is not here")]
pub(crate) struct CompileArgs {
    /// Wasm files or images
    #[arg(required = true)]
    what: Vec<String>,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: CompileArgs) -> Result<ExitCode> {
    must_be_root("compile")?;
    let place = args.place.absolute()?;
    let exe = std::env::current_exe().context("find this program's own file")?;
    let dir = place.code();
    let cache = CodeCache::open(&dir).with_context(|| format!("open the code cache {}", dir.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for what in &args.what {
        runtime.block_on(async {
            let (wasm, digest) = program(&place, &args.registries, what).await?;
            code::ensure(&cache, &exe, wasm, &digest).await.with_context(|| what.clone())?;
            print(format!("{digest}\n"))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The program, and its digest as the front will ask for it.
async fn program(place: &Place, registries: &Registries, what: &str) -> Result<(File, String)> {
    let open = |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
    if Path::new(what).is_file() {
        let path = Path::new(what);
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        return Ok((open(path)?, Digest::of(&bytes).to_string()));
    }
    let image = store::present_or_pulled(place, registries, what, Pull::Missing).await?;
    match &image.content {
        Content::Module { path, digest, .. } => Ok((open(path)?, digest.to_string())),
        Content::Rootfs { .. } => {
            let Some(entrypoint) = image.config.entrypoint.first() else {
                bail!("{what} names no program, so there is nothing to compile before it is run");
            };
            let store = store::open(place)?;
            let find =
                || store.open_in_image(&image, entrypoint)?.with_context(|| format!("{what} has no {entrypoint}"));
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut find()?, &mut bytes).with_context(|| format!("read {entrypoint}"))?;
            Ok((find()?, Digest::of(&bytes).to_string()))
        }
    }
}
