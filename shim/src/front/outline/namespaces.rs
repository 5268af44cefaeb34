//! `linux.namespaces`: its own, another's, or the host's.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::Serialize;

use super::OutlineError;

/// How the container comes to a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Entry {
    /// The front's own.
    #[default]
    Host,
    New,
    Join(PathBuf),
}

/// All but the mount namespace, which is always its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct NamespacesOutline {
    pub(crate) network: Entry,
    pub(crate) pid: Entry,
    pub(crate) uts: Entry,
    pub(crate) ipc: Entry,
    pub(crate) cgroup: Entry,
}

pub(super) fn of(spec: &Spec) -> Result<NamespacesOutline, OutlineError> {
    let mut outline = NamespacesOutline::default();
    let linux = spec.linux().as_ref();
    for namespace in linux.iter().flat_map(|linux| linux.namespaces().iter().flatten()) {
        let entry = entry(namespace.path().as_deref())?;
        match namespace.typ() {
            LinuxNamespaceType::Mount => {}
            LinuxNamespaceType::Pid => outline.pid = entry,
            LinuxNamespaceType::Uts => outline.uts = entry,
            LinuxNamespaceType::Ipc => outline.ipc = entry,
            LinuxNamespaceType::Cgroup => outline.cgroup = entry,
            LinuxNamespaceType::Network => outline.network = entry,
            LinuxNamespaceType::User => return Err(OutlineError::Unsupported("a user namespace")),
            LinuxNamespaceType::Time => return Err(OutlineError::Unsupported("a time namespace")),
        }
    }
    Ok(outline)
}

fn entry(path: Option<&Path>) -> Result<Entry, OutlineError> {
    match path.filter(|path| !path.as_os_str().is_empty()) {
        None => Ok(Entry::New),
        Some(path) if path.is_absolute() => Ok(Entry::Join(path.into())),
        Some(path) => Err(OutlineError::value("linux.namespaces[].path", path.to_string_lossy(), "is not absolute")),
    }
}
