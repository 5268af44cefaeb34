//! The open files that came with a plan.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::plan::Fd;

/// By [`Fd`]. What nobody took is closed with it, before the guest runs.
#[derive(Debug)]
pub(super) struct Files(Vec<Slot>);

#[derive(Debug)]
enum Slot {
    Here(OwnedFd),
    Taken,
}

/// The plan and its files do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{what} is file {index} of the plan, which has {count}")]
    Missing { what: &'static str, index: u16, count: usize },
    #[error("{what} is file {index} of the plan, which is used for something else too")]
    Taken { what: &'static str, index: u16 },
    #[error("copy the file for {what}")]
    Copy {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Files {
    pub(super) fn new(files: Vec<OwnedFd>) -> Self {
        Self(files.into_iter().map(Slot::Here).collect())
    }

    /// Looks at a file; `what` names it in the error.
    pub(super) fn get(&self, fd: Fd, what: &'static str) -> Result<BorrowedFd<'_>, FileError> {
        match self.0.get(usize::from(fd.0)) {
            Some(Slot::Here(file)) => Ok(file.as_fd()),
            Some(Slot::Taken) => Err(FileError::Taken { what, index: fd.0 }),
            None => Err(FileError::Missing { what, index: fd.0, count: self.0.len() }),
        }
    }

    /// Takes a file that outlives the set-up.
    pub(super) fn take(&mut self, fd: Fd, what: &'static str) -> Result<OwnedFd, FileError> {
        self.get(fd, what)?;
        match std::mem::replace(&mut self.0[usize::from(fd.0)], Slot::Taken) {
            Slot::Here(file) => Ok(file),
            Slot::Taken => unreachable!("looked at just before"),
        }
    }

    /// A copy under a number of its own, for one of two that share a file.
    pub(super) fn copy(&self, fd: Fd, what: &'static str) -> Result<OwnedFd, FileError> {
        let file = self.get(fd, what)?;
        file.try_clone_to_owned().map_err(|source| FileError::Copy { what, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_end_and_one_used_twice_are_refused_by_name() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut files = Files::new(vec![null.into()]);
        let error = files.get(Fd(1), "the code").unwrap_err();
        assert_eq!(error.to_string(), "the code is file 1 of the plan, which has 1");
        files.take(Fd(0), "the code").unwrap();
        let error = files.take(Fd(0), "the control socket").unwrap_err();
        assert!(error.to_string().starts_with("the control socket is file 0"));
    }
}
