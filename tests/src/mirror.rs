//! A registry, and a mirror that pulls through it, on a node's own loopback.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::cluster::Cluster;
use crate::node::Node;
use crate::private::{serve, with_the_runs_images};
use crate::site::process::Process;
use crate::wait::{Seen, until};

/// Where they are for their node, whose loopback has nothing else there.
const ORIGIN: &str = "127.0.0.1:5002";
const MIRROR: &str = "127.0.0.1:5003";

/// Both, running; they end with the site.
#[derive(Debug)]
pub struct Mirrored {
    origin: Process,
    _mirror: Process,
    kept: PathBuf,
}

impl Mirrored {
    /// Settings for a node, in containerd's form: images of `registry` are had from the mirror, else from the registry, which is
    /// the one here. Returns the directory.
    pub fn settings(cluster: &Cluster, name: &str, registry: &str) -> Result<PathBuf> {
        let hosts = cluster.site().data_dir().join(format!("hosts-{name}"));
        let directory = hosts.join(registry);
        fs::create_dir_all(&directory)?;
        let text =
            format!("server = 'http://{ORIGIN}'\n[host.'http://{MIRROR}']\ncapabilities = ['pull', 'resolve']\n");
        fs::write(directory.join("hosts.toml"), text).with_context(|| format!("write to {}", directory.display()))?;
        Ok(hosts)
    }

    /// Starts the registry, with the run's images in it, and the mirror, with nothing.
    pub async fn start(cluster: &Cluster, node: &Node, name: &str) -> Result<Self> {
        let directory = |of: &str| -> Result<PathBuf> {
            let directory = cluster.site().data_dir().join(format!("{of}-{name}"));
            fs::create_dir_all(&directory)?;
            Ok(directory)
        };
        let origin = serve(cluster, node, &directory("origin")?, ORIGIN, with_the_runs_images(cluster)).await?;
        let files = directory("mirror")?;
        let kept = files.join("data");
        let config = json!({
            "storage": { "filesystem": { "rootdirectory": kept }, "delete": { "enabled": true } },
            "proxy": { "remoteurl": format!("http://{ORIGIN}") },
        });
        let mirror = serve(cluster, node, &files, MIRROR, config).await?;
        Ok(Self { origin, _mirror: mirror, kept })
    }

    /// Waits until the mirror has so many blobs of a repository for itself: it passes them on first.
    pub async fn keeps(&self, repository: &str, blobs: usize) -> Result<()> {
        let links = self.kept.join("docker/registry/v2/repositories").join(repository).join("_layers/sha256");
        until(format!("the mirror keeps {blobs} blobs of {repository}"), Duration::from_secs(60), async || {
            let entries = fs::read_dir(&links).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
            let whole = entries.iter().filter(|entry| entry.path().join("link").is_file()).count();
            Ok(Seen::when(whole == blobs, format!("{whole}")))
        })
        .await
    }

    /// Ends the registry; the mirror goes on.
    pub fn end_origin(&mut self) -> Result<()> {
        self.origin.kill().map(drop)
    }
}
