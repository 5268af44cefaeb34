//! The kernel's order of victims when memory runs out.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::IdentityError;

/// A value and where it goes.
#[derive(Debug)]
pub(super) struct Opened {
    value: i32,
    file: OwnedFd,
}

impl Opened {
    pub(super) fn new(value: i32) -> Result<Self, IdentityError> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open("/proc/self/oom_score_adj", flags, Mode::empty())
            .map_err(|errno| IdentityError::OomScore { value, source: errno.into() })?;
        Ok(Self { value, file })
    }

    /// Making a process a less likely victim takes CAP_SYS_RESOURCE, which some nodes do not have: worth a line, not an
    /// end.
    pub(super) fn apply(self) -> Result<Option<String>, IdentityError> {
        let value = self.value;
        match rustix::io::write(&self.file, value.to_string().as_bytes()) {
            Ok(_) => Ok(None),
            Err(Errno::ACCESS | Errno::PERM) => {
                Ok(Some(format!("oom_score_adj {value} is not set: this node does not have CAP_SYS_RESOURCE")))
            }
            Err(errno) => Err(IdentityError::OomScore { value, source: errno.into() }),
        }
    }
}
