//! Namespaces of a container: joined or new, all but the pid namespace, which is the fork's.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::files::{FileError, Files};
use super::kernel;
use crate::plan::{ContainerPlan, Namespace};

/// A namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("join {what}")]
    Join {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("make new namespaces")]
    New(#[source] io::Error),
    #[error("set the host name {0:?}")]
    Hostname(String, #[source] io::Error),
    #[error("set the domain name {0:?}")]
    Domainname(String, #[source] io::Error),
    #[error("set {path} to {value:?}")]
    Sysctl {
        path: String,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("a host name needs a new uts namespace")]
    HostnameOfAnother,
    #[error("a root file system needs a new mount namespace, and a process without one has to join a container's")]
    Mount,
}

/// Joins first, makes new ones after: what is new belongs to nobody else.
pub(super) fn enter(plan: &ContainerPlan, files: &Files) -> Result<(), NamespaceError> {
    let wanted = &plan.namespaces;
    match (&plan.filesystem, wanted.mount) {
        (Some(_), Namespace::New) | (None, Namespace::Join(_)) => {}
        _ => return Err(NamespaceError::Mount),
    }
    if (plan.hostname.is_some() || plan.domainname.is_some()) && wanted.uts != Namespace::New {
        return Err(NamespaceError::HostnameOfAnother);
    }
    if let Some(network) = wanted.network {
        join(files.get(network, "the network namespace")?, Kind::NETWORK)?;
    }
    let mut new = UnshareFlags::empty();
    let kinds =
        [(wanted.uts, Kind::UTS), (wanted.ipc, Kind::IPC), (wanted.cgroup, Kind::CGROUP), (wanted.mount, Kind::MOUNT)];
    for (namespace, kind) in kinds {
        match namespace {
            Namespace::Host => {}
            Namespace::New => new |= kind.new,
            Namespace::Join(fd) => join(files.get(fd, kind.what)?, kind)?,
        }
    }
    kernel::unshare(new).map_err(|errno| NamespaceError::New(errno.into()))?;
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|errno| NamespaceError::Hostname(name.clone(), errno.into()))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .map_err(|errno| NamespaceError::Domainname(name.clone(), errno.into()))?;
    }
    // Those of the namespaces in which this process is by now; its root is still the zygote's, which has a /proc.
    plan.sysctls.iter().try_for_each(|(path, value)| {
        let failed = |source| NamespaceError::Sysctl { path: path.clone(), value: value.clone(), source };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("/proc/sys/{path}"), flags, Mode::empty());
        let file = file.map_err(|errno| failed(errno.into()))?;
        rustix::io::write(&file, value.as_bytes()).map(drop).map_err(|errno| failed(errno.into()))
    })
}

#[derive(Clone, Copy)]
struct Kind {
    what: &'static str,
    new: UnshareFlags,
    join: LinkNameSpaceType,
}

impl Kind {
    const NETWORK: Self =
        Self { what: "the network namespace", new: UnshareFlags::NEWNET, join: LinkNameSpaceType::Network };
    const UTS: Self = Self {
        what: "the uts namespace",
        new: UnshareFlags::NEWUTS,
        join: LinkNameSpaceType::HostNameAndNISDomainName,
    };
    const IPC: Self = Self {
        what: "the ipc namespace",
        new: UnshareFlags::NEWIPC,
        join: LinkNameSpaceType::InterProcessCommunication,
    };
    const CGROUP: Self =
        Self { what: "the cgroup namespace", new: UnshareFlags::NEWCGROUP, join: LinkNameSpaceType::ControlGroup };
    const MOUNT: Self = Self { what: "the mount namespace", new: UnshareFlags::NEWNS, join: LinkNameSpaceType::Mount };
}

fn join(namespace: BorrowedFd<'_>, kind: Kind) -> Result<(), NamespaceError> {
    move_into_link_name_space(namespace, Some(kind.join))
        .map_err(|errno| NamespaceError::Join { what: kind.what, source: errno.into() })
}
