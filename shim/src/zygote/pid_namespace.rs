//! Into which pid namespace the next fork goes.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::protocol::PidNamespace;

/// The zygote's own pid namespace, to come back to.
#[derive(Debug)]
pub(super) struct Home(OwnedFd);

impl Home {
    pub(super) fn new(proc: &OwnedFd) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(openat(proc, "self/ns/pid", flags, Mode::empty())?))
    }

    /// Lets the next fork go into `namespace`.
    pub(super) fn leave_for(&self, namespace: &PidNamespace<OwnedFd>) -> rustix::io::Result<()> {
        match namespace {
            PidNamespace::Host => Ok(()),
            PidNamespace::New => crate::container::unshare(UnshareFlags::NEWPID),
            PidNamespace::Join(other) => {
                let kind = Some(LinkNameSpaceType::ProcessID);
                move_into_link_name_space(other.as_fd(), kind)
            }
        }
    }

    /// Undoes [`Self::leave_for`]: the kernel refuses to leave twice, and a zygote that cannot come back would fork into
    /// a stranger's namespace. Its end is the lesser evil: its containers live on and the front starts another.
    pub(super) fn come_back(&self, from: &PidNamespace<OwnedFd>) -> io::Result<()> {
        match from {
            PidNamespace::Host => Ok(()),
            PidNamespace::New | PidNamespace::Join(_) => {
                let kind = Some(LinkNameSpaceType::ProcessID);
                Ok(move_into_link_name_space(self.0.as_fd(), kind)?)
            }
        }
    }
}
