//! Where things are.

use std::path::{Path, PathBuf};

/// Paths of everything that belongs to pods. Names are the kubelet's where it has any.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    run: PathBuf,
    logs: PathBuf,
    log_links: PathBuf,
}

impl Layout {
    /// The directories of the agent's configuration.
    pub fn new(root: &Path, run: &Path, logs: &Path, log_links: &Path) -> Self {
        Self { root: root.into(), run: run.into(), logs: logs.into(), log_links: log_links.into() }
    }

    /// What is on disk: no two agents have the same.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All pods' directories.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// What a pod has on disk.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// A volume on disk.
    pub fn volume(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(plugin).join(name)
    }

    /// Bind mounts of sub paths.
    pub fn sub_path(&self, uid: &str, volume: &str, container: &str, index: usize) -> PathBuf {
        self.sub_paths(uid).join(volume).join(container).join(index.to_string())
    }

    /// All of a pod's.
    pub fn sub_paths(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volume-subpaths")
    }

    /// A container's writable layer and termination log.
    pub fn container(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(container).join(attempt.to_string())
    }

    /// All pods' volumes that never touch a disk.
    pub fn projections(&self) -> PathBuf {
        self.run.join("volumes")
    }

    /// One pod's.
    pub fn pod_projections(&self, uid: &str) -> PathBuf {
        self.projections().join(uid)
    }

    /// All bundles.
    pub fn bundles(&self) -> PathBuf {
        Self::bundles_in(&self.run)
    }

    /// All bundles of the agent with this `--run-dir`.
    pub fn bundles_in(run: &Path) -> PathBuf {
        run.join("bundles")
    }

    /// One pod's.
    pub fn pod_bundles(&self, uid: &str) -> PathBuf {
        self.bundles().join(uid)
    }

    /// One attempt's.
    pub fn bundle(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_bundles(uid).join(format!("{container}_{attempt}"))
    }

    /// Pods' status, on a node without an API server.
    pub fn status(&self) -> PathBuf {
        self.run.join("status")
    }

    /// All fronts.
    pub fn fronts(&self) -> PathBuf {
        self.run.join("fronts")
    }

    /// A pod's logs.
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join(format!("{namespace}_{name}_{uid}"))
    }

    /// All pods' logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The link by which collectors find a container's log.
    pub fn log_link(&self, namespace: &str, pod: &str, container: &str, id: &str) -> PathBuf {
        self.log_links.join(format!("{pod}_{namespace}_{container}-{id}.log"))
    }

    /// All links.
    pub fn log_links(&self) -> &Path {
        &self.log_links
    }
}
