//! What of a pod is on the machine: processes, cgroups, mounts, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use samara_shim_client::bundle::Bundle;

use crate::node::Node;
use crate::site::process::ProcessId;
use crate::site::{cgroup, ledger};

/// One pod's traces on its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Its containers' processes that run.
    pub processes: Vec<ProcessId>,
    /// Cgroup directories.
    pub cgroups: Vec<PathBuf>,
    /// Mount points.
    pub mounts: Vec<PathBuf>,
    /// Files and directories whose name holds its UID.
    pub files: Vec<PathBuf>,
}

impl Traces {
    /// Looks for them.
    pub fn of(node: &Node, scope: &str, uid: &str) -> Result<Self> {
        let cgroups: Vec<_> = cgroup::beneath(scope).into_iter().filter(|dir| names(dir, uid)).collect();
        let members = cgroups.iter().flat_map(|dir| cgroup::members(dir));
        let started = bundles(node, uid)?.into_iter().filter_map(|(_, bundle)| process(&bundle));
        let processes: BTreeSet<_> = members.chain(started).map(|id| (id.pid, id.start_time)).collect();
        let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let mut files = Vec::new();
        for dir in [node.root_dir(), node.run_dir(), node.logs_dir()] {
            find(dir, uid, &mut files);
        }
        Ok(Self {
            processes: processes.into_iter().map(|(pid, start_time)| ProcessId { pid, start_time }).collect(),
            cgroups,
            mounts: ledger::mount_points(&table).into_iter().filter(|point| names(point, uid)).collect(),
            files,
        })
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A pod's bundles by `<container>_<attempt>`.
pub fn bundles(node: &Node, uid: &str) -> Result<Vec<(String, Bundle)>> {
    let dir = node.run_dir().join("bundles").join(uid);
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(Vec::new()) };
    let named =
        entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), Bundle::new(entry.path())));
    Ok(named.collect())
}

/// The process of a bundle, if it runs.
pub fn process(bundle: &Bundle) -> Option<ProcessId> {
    let record = bundle.start_record().ok()??;
    let id = ProcessId { pid: record.pid, start_time: record.start_time };
    id.is_running().then_some(id)
}

/// Cgroup directories write a UID with underscores in systemd's style.
fn names(path: &Path, uid: &str) -> bool {
    let text = path.to_string_lossy();
    text.contains(uid) || text.contains(&uid.replace('-', "_"))
}

fn find(dir: &Path, uid: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|name| names(Path::new(name), uid)) {
            found.push(path);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, uid, found);
        }
    }
}
