//! Descriptors kept for a control thread whose guest has taken all others.

use std::os::fd::{AsFd, OwnedFd};

/// One for a connection, one for a file that comes with a command.
const KEPT: usize = 2;

/// Numbers in the table of descriptors that nobody else can take.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<OwnedFd>);

impl Spare {
    /// Takes what is free, up to what is kept. A copy of `any` open file takes up no more than its number.
    pub(super) fn fill(&mut self, any: impl AsFd) {
        while self.0.len() < KEPT {
            match any.as_fd().try_clone_to_owned() {
                Ok(copy) => self.0.push(copy),
                Err(_) => return,
            }
        }
    }

    /// Gives them away, for what is done next. Not while there is no need: a guest that takes all it can get may be
    /// faster.
    pub(super) fn lend(&mut self) {
        self.0.clear();
    }
}
