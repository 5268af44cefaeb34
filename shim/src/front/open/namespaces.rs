//! Namespaces to join, as open files.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Files, OpenError};
use crate::front::outline::{self, Entry, NamespacesOutline, Outline};
use crate::plan::{Namespace, Namespaces};
use crate::zygote::protocol::PidNamespace;

/// For a container's first process.
pub(super) fn own(
    outline: &NamespacesOutline,
    files: &mut Files,
) -> Result<(Namespaces, PidNamespace<OwnedFd>), OpenError> {
    let network = match &outline.network {
        Entry::Host => None,
        Entry::New => Some(files.add(super::network::new().map_err(OpenError::io("make", "a network namespace"))?)),
        Entry::Join(path) => Some(files.add(open(path)?)),
    };
    let mut entry = |entry: &Entry| -> Result<Namespace, OpenError> {
        Ok(match entry {
            Entry::Host => Namespace::Host,
            Entry::New => Namespace::New,
            Entry::Join(path) => Namespace::Join(files.add(open(path)?)),
        })
    };
    let namespaces = Namespaces {
        network,
        mount: Namespace::New,
        uts: entry(&outline.uts)?,
        ipc: entry(&outline.ipc)?,
        cgroup: entry(&outline.cgroup)?,
    };
    let pid = match &outline.pid {
        Entry::Host => PidNamespace::Host,
        Entry::New => PidNamespace::New,
        Entry::Join(path) => PidNamespace::Join(open(path)?),
    };
    Ok((namespaces, pid))
}

/// A namespace that is joined by path may turn out to be the host's: its settings are not a container's to make.
pub(super) fn check_sysctls(outline: &Outline) -> Result<(), OpenError> {
    let inode = |path: &Path| {
        let about = std::fs::metadata(path).map_err(OpenError::io("look at namespace", path))?;
        Ok::<_, OpenError>((about.dev(), about.ino()))
    };
    for key in outline.sysctls.keys() {
        let Some(Entry::Join(path)) = outline::namespace_of(key, &outline.namespaces) else { continue };
        for own in ["net", "uts", "ipc"] {
            if inode(path)? == inode(&Path::new("/proc/self/ns").join(own))? {
                let path = path.display();
                return Err(OpenError::Unsupported(format!(
                    "linux.sysctl: {key} is the host's: so is namespace {path}"
                )));
            }
        }
    }
    Ok(())
}

/// A container's first process, whose world an exec joins.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    proc: PathBuf,
}

impl Neighbour {
    /// By pid; the caller knows that the process lives.
    pub(crate) fn new(pid: i32) -> Self {
        Self { proc: format!("/proc/{pid}").into() }
    }

    /// Its root directory.
    pub(crate) fn root(&self) -> Result<OwnedFd, OpenError> {
        let path = self.proc.join("root");
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).map_err(OpenError::io("open", path))
    }

    pub(super) fn join(&self, files: &mut Files) -> Result<(Namespaces, PidNamespace<OwnedFd>), OpenError> {
        let mut open = |name: &str| open(&self.proc.join("ns").join(name)).map(|file| files.add(file));
        let namespaces = Namespaces {
            network: Some(open("net")?),
            mount: Namespace::Join(open("mnt")?),
            uts: Namespace::Join(open("uts")?),
            ipc: Namespace::Join(open("ipc")?),
            cgroup: Namespace::Join(open("cgroup")?),
        };
        let pid = self::open(&self.proc.join("ns").join("pid"))?;
        Ok((namespaces, PidNamespace::Join(pid)))
    }
}

fn open(path: &Path) -> Result<OwnedFd, OpenError> {
    File::open(path).map(OwnedFd::from).map_err(OpenError::io("open namespace", path))
}
