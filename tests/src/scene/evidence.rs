//! What a failed test leaves behind.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Scene;

/// Writes the failure, the namespace's objects and events, its pods' logs, and the agent's and control plane's logs.
pub(super) async fn keep(scene: &Scene, dir: &Path, failure: &str) -> Result<()> {
    fs::remove_dir_all(dir).ok();
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    fs::write(dir.join("failure.txt"), failure)?;
    for (file, args) in [
        ("pods.yaml", &["get", "pods", "-o", "yaml"][..]),
        ("objects.yaml", &["get", "deployments,replicasets,jobs,services,endpointslices,configmaps", "-o", "yaml"]),
        ("events.txt", &["get", "events", "--sort-by=.lastTimestamp"]),
        ("describe.txt", &["describe", "pods"]),
        ("nodes.yaml", &["get", "nodes", "-o", "yaml"]),
    ] {
        let text = scene.kubectl(args).await.unwrap_or_else(|error| format!("{error:#}\n"));
        fs::write(dir.join(file), text)?;
    }
    copy(&scene.cluster().logs(), &dir.join("logs"), &|_| true)?;
    let prefix = format!("{}_", scene.namespace());
    for node in fs::read_dir(scene.cluster().site().data_dir())?.flatten() {
        copy(&node.path().join("log/pods"), &dir.join("pods"), &|name| name.starts_with(&prefix))?;
    }
    Ok(())
}

/// Copies the files of a directory, and those of the subdirectories that are wanted.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else { continue };
        if !wanted(&name.to_string_lossy()) {
            continue;
        }
        if kind.is_dir() {
            copy(&entry.path(), &to.join(&name), &|_| true)?;
        } else if kind.is_file() {
            fs::create_dir_all(to)?;
            fs::copy(entry.path(), to.join(&name)).with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
