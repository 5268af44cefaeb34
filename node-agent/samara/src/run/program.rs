//! What is to be run: a wasm file, or an image from the store or a registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use samara_images::{Content, Image};
use samara_shim_client::annotations;

use crate::image::registries::Registries;
use crate::image::store;
use crate::place::Place;

/// `--pull`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    Always,
    /// If it is not here
    #[default]
    Missing,
    Never,
}

/// Something with an entrypoint.
#[derive(Debug)]
pub(super) enum Program {
    /// A file on this machine.
    File { path: PathBuf, name: String },
    /// From a registry.
    Image(Box<FromImage>),
}

/// An image, with the two files of it that names of users are looked up in.
#[derive(Debug)]
pub(super) struct FromImage {
    pub(super) image: Image,
    passwd: String,
    groups: String,
}

/// A file if there is one by that name, an image otherwise.
pub(super) async fn find(place: &Place, registries: &Registries, wanted: &str, pull: Pull) -> Result<Program> {
    let path = Path::new(wanted);
    if path.is_file() {
        let path = fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(Program::File { path, name });
    }
    if path.is_dir() && wanted.contains('/') && wanted.starts_with(['.', '/']) {
        bail!("{wanted} is a directory: `samara build` makes an image of it");
    }
    let looks_like_a_file = wanted.starts_with(['.', '/']) || wanted.ends_with(".wasm");
    if looks_like_a_file {
        bail!("there is no file {wanted} (an image's name does not begin with . or / and does not end with .wasm)");
    }
    let image = store::present_or_pulled(place, registries, wanted, pull).await?;
    let open = store::open(place)?;
    let read = |path: &str| -> Result<String> {
        // Some hundred users at most; an image may hold anything.
        const LONGEST: u64 = 1 << 20;
        let Some(file) = open.open_in_image(&image, path)? else { return Ok(String::new()) };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).with_context(|| format!("read {path} of {wanted}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (passwd, groups) = (read("/etc/passwd")?, read("/etc/group")?);
    Ok(Program::Image(Box::new(FromImage { image, passwd, groups })))
}

impl Program {
    fn image(&self) -> Option<&Image> {
        match self {
            Self::File { .. } => None,
            Self::Image(from) => Some(&from.image),
        }
    }

    /// Digest of the manifest, if it has one.
    pub(super) fn digest(&self) -> Option<String> {
        self.image().map(|image| image.digest.to_string())
    }

    pub(super) fn entrypoint(&self) -> Vec<String> {
        match self {
            Self::File { name, .. } => vec![name.clone()],
            Self::Image(from) => match (&from.image.content, from.image.config.entrypoint.is_empty()) {
                // The image is the program; its name is all it needs.
                (Content::Module { .. }, true) => {
                    vec![from.image.reference.repository().rsplit('/').next().unwrap_or_default().to_owned()]
                }
                _ => from.image.config.entrypoint.clone(),
            },
        }
    }

    pub(super) fn cmd(&self) -> &[String] {
        self.image().map_or(&[], |image| &image.config.cmd)
    }

    pub(super) fn env(&self) -> &[String] {
        self.image().map_or(&[], |image| &image.config.env)
    }

    pub(super) fn working_dir(&self) -> Option<&str> {
        self.image().map(|image| &*image.config.working_dir).filter(|dir| !dir.is_empty())
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.image().map(|image| &*image.config.user)
    }

    pub(super) fn stop_signal(&self) -> &str {
        self.image().map_or("", |image| &image.config.stop_signal)
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.image().map(|image| image.config.labels.clone()).unwrap_or_default()
    }

    /// `/etc/passwd` and `/etc/group`, empty if there are none.
    pub(super) fn users(&self) -> (&str, &str) {
        match self {
            Self::File { .. } => ("", ""),
            Self::Image(from) => (&from.passwd, &from.groups),
        }
    }

    /// Of its root file system, lowest first.
    pub(super) fn layers(&self) -> Vec<PathBuf> {
        match self.image().map(|image| &image.content) {
            Some(Content::Rootfs { layers }) => layers.clone(),
            Some(Content::Module { .. }) | None => Vec::new(),
        }
    }

    /// Where the wasm is, unless it is in the root.
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        let module = |path: &Path| (annotations::MODULE.to_owned(), path.display().to_string());
        match self {
            Self::File { path, .. } => [module(path)].into(),
            Self::Image(from) => match &from.image.content {
                Content::Module { path, digest, .. } => {
                    [module(path), (annotations::MODULE_DIGEST.to_owned(), digest.to_string())].into()
                }
                Content::Rootfs { .. } => BTreeMap::new(),
            },
        }
    }
}
