//! What is to be run: a wasm file, or an image from the store or a registry.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use samara_images::{Content, Image};
use samara_shim_client::annotations;
use samara_shim_client::client::RootMount;

use super::RunArgs;
use crate::images;

/// Something with an entrypoint.
#[derive(Debug)]
pub(super) enum Program {
    /// A file on this machine.
    File { path: PathBuf, name: String },
    /// From a registry.
    Image(Box<Image>),
}

/// A file if there is one by that name, an image otherwise.
pub(super) async fn find(args: &RunArgs) -> Result<Program> {
    let path = Path::new(&args.image);
    if path.is_file() {
        let path = fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(Program::File { path, name });
    }
    let looks_like_a_file = args.image.starts_with(['.', '/']) || args.image.ends_with(".wasm");
    if looks_like_a_file {
        anyhow::bail!("{}: there is no such file", args.image);
    }
    let image = images::present_or_pulled(&args.root_dir, &args.image, args.pull).await?;
    Ok(Program::Image(Box::new(image)))
}

impl Program {
    pub(super) fn entrypoint(&self) -> Vec<String> {
        match self {
            Self::File { name, .. } => vec![name.clone()],
            Self::Image(image) => match (&image.content, image.config.entrypoint.is_empty()) {
                // The image is the program; its name is all it needs.
                (Content::Module { .. }, true) => {
                    vec![image.reference.repository().rsplit('/').next().unwrap_or_default().to_owned()]
                }
                _ => image.config.entrypoint.clone(),
            },
        }
    }

    pub(super) fn cmd(&self) -> &[String] {
        match self {
            Self::File { .. } => &[],
            Self::Image(image) => &image.config.cmd,
        }
    }

    pub(super) fn env(&self) -> &[String] {
        match self {
            Self::File { .. } => &[],
            Self::Image(image) => &image.config.env,
        }
    }

    pub(super) fn working_dir(&self) -> Option<&str> {
        match self {
            Self::File { .. } => None,
            Self::Image(image) => Some(&*image.config.working_dir).filter(|dir| !dir.is_empty()),
        }
    }

    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::File { .. } => None,
            Self::Image(image) => Some(&image.config.user),
        }
    }

    /// Where the wasm is, unless it is in the root.
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        let module = |path: &Path| (annotations::MODULE.to_owned(), path.display().to_string());
        match self {
            Self::File { path, .. } => [module(path)].into(),
            Self::Image(image) => match &image.content {
                Content::Module { path, digest, .. } => {
                    [module(path), (annotations::MODULE_DIGEST.to_owned(), digest.to_string())].into()
                }
                Content::Rootfs { .. } => BTreeMap::new(),
            },
        }
    }

    /// The image's layers under a writable one in `dir`; nothing (an empty directory) for a module alone.
    pub(super) fn rootfs(&self, dir: &Path) -> Result<Vec<RootMount>> {
        let Self::Image(image) = self else { return Ok(Vec::new()) };
        let Content::Rootfs { layers } = &image.content else { return Ok(Vec::new()) };
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        for made in [&upper, &work] {
            fs::create_dir_all(made).with_context(|| format!("make {}", made.display()))?;
        }
        // overlayfs wants the top layer first.
        let lower = layers.iter().rev().map(|layer| layer.display().to_string()).collect::<Vec<_>>().join(":");
        Ok(vec![RootMount {
            typ: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                format!("lowerdir={lower}"),
                format!("upperdir={}", upper.display()),
                format!("workdir={}", work.display()),
            ],
        }])
    }
}
