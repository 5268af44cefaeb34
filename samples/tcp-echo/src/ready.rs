//! `poll(2)`, which std does not have.
#![expect(unsafe_code, reason = "one call into libc")]

use std::io;
use std::os::fd::RawFd;

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    Read,
    Write,
}

/// Waits until at least one is ready (or has failed, which its next use will tell); answers for each in order.
pub fn wait(wishes: &[(RawFd, Wish)]) -> io::Result<Vec<bool>> {
    let mut entries: Vec<libc::pollfd> = wishes
        .iter()
        .map(|(fd, wish)| libc::pollfd {
            fd: *fd,
            events: match wish {
                Wish::Read => libc::POLLIN,
                Wish::Write => libc::POLLOUT,
            },
            revents: 0,
        })
        .collect();
    // SAFETY: pointer and length are of one live vector, which poll only writes `revents` of.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, -1) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(entries.iter().map(|entry| entry.revents != 0).collect())
}
