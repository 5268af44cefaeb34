//! The container's cgroups: entered before it allocates anything of its own.

use std::io;

use super::files::{FileError, Files};
use crate::plan::Fd;

/// A cgroup could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("enter cgroup {0} of the plan")]
    Enter(usize, #[source] io::Error),
}

/// Writes the caller into each. v1's `tasks` moves one thread, and there is only one.
pub(super) fn enter(cgroups: &[Fd], files: &Files) -> Result<(), CgroupError> {
    for (index, fd) in cgroups.iter().enumerate() {
        let file = files.get(*fd, "a cgroup")?;
        rustix::io::write(file, b"0").map_err(|errno| CgroupError::Enter(index, errno.into()))?;
    }
    Ok(())
}
