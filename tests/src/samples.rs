//! The guests: where they are built, what images they become, and their manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use samara_images::{Artifact, Credential, ImageConfig, Pusher, Reference, RegistryConfig, RootfsBuilder};
use serde::Deserialize;

use crate::cluster::workspace;

/// Prefix of every image name, in the manifests too. On a node it leads to the run's registry; see [`crate::forward`].
pub const REGISTRY: &str = "localhost:5000/samara";

/// `samples/images.yaml`: what image each artifact becomes.
#[derive(Debug, Deserialize)]
struct Images {
    images: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    image: String,
    artifact: PathBuf,
    format: Format,
    #[serde(default)]
    files: Vec<Entry>,
    #[serde(default)]
    links: BTreeMap<String, String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    entrypoint: Vec<String>,
    #[serde(default)]
    cmd: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The CNCF artifact: one layer, no root file system.
    Wasm,
    /// An OCI image with a root.
    Rootfs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    mode: String,
}

/// The image of a sample; without a tag `v1`.
pub fn image(sample: &str) -> String {
    let tag = if sample.contains(':') { "" } else { ":v1" };
    format!("{REGISTRY}/{sample}{tag}")
}

/// The samples' directory.
pub fn dir() -> PathBuf {
    workspace().join("samples")
}

/// A sample's manifest.
pub fn manifest(name: &str) -> PathBuf {
    dir().join(name).join(format!("{name}.yaml"))
}

/// The file of a built guest, such as `wasm32-wasip1/release/hello.wasm`.
pub fn artifact(path: impl AsRef<Path>) -> PathBuf {
    dir().join("target").join(path)
}

/// Pushes every image of `samples/images.yaml` to the run's registry, and returns how many.
pub async fn push_all() -> Result<usize> {
    let file = dir().join("images.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let Images { images } = serde_yaml_ng::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
    let count = images.len();
    let pusher = pusher();
    let pushes = images.into_iter().map(|sample| {
        let pusher = &pusher;
        async move { push(pusher, &sample.image, make(&sample)?).await }
    });
    futures::stream::iter(pushes).buffer_unordered(4).try_collect::<()>().await?;
    Ok(count)
}

/// Pushes one image to the run's registry.
pub async fn push(pusher: &Pusher, name: &str, artifact: Artifact) -> Result<()> {
    let reference = Reference::parse(name).with_context(|| format!("the name {name}"))?;
    pusher.push(&reference, &artifact, &Credential::Anonymous, &()).await.with_context(|| format!("push {name}"))?;
    Ok(())
}

/// A pusher to registries of this machine.
pub fn pusher() -> Pusher {
    Pusher::new(RegistryConfig::default())
}

fn make(sample: &Sample) -> Result<Artifact> {
    let file = artifact(&sample.artifact);
    let made = match sample.format {
        Format::Wasm => Artifact::wasm(&file),
        Format::Rootfs => with_root(sample, &file)?.build(),
    };
    made.with_context(|| format!("make {} of {}; is it built? `make samples`", sample.image, file.display()))
}

fn with_root(sample: &Sample, file: &Path) -> Result<RootfsBuilder> {
    let mut root = RootfsBuilder::new().config(ImageConfig {
        entrypoint: sample.entrypoint.clone(),
        cmd: sample.cmd.clone(),
        env: sample.env.clone(),
        ..ImageConfig::default()
    });
    for entry in &sample.files {
        let mode =
            u32::from_str_radix(&entry.mode, 8).with_context(|| format!("mode {} of {}", entry.mode, entry.path))?;
        root = root.file(&entry.path, file, mode)?;
    }
    for (path, target) in &sample.links {
        root = root.link(path, target)?;
    }
    Ok(root)
}
