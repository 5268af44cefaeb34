//! Waiting for a file descriptor that tokio has no type for.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor that `OwnedFd` keeps")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor in the runtime's event loop.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Registers `file`.
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> io::Result<Watched> {
    // SAFETY: an `OwnedFd` names the same open file from here until it is dropped, which `AsyncFd` does after it has
    // deregistered it, and `AsyncFd` gives no way to replace it.
    let watched = unsafe { AsyncFd::register_with_interest(file, interest) };
    watched.map_err(|error| error.into_parts().1)
}

/// Registers `file` for both directions.
pub(crate) fn watch_both(file: OwnedFd) -> io::Result<Watched> {
    watch(file, Interest::READABLE | Interest::WRITABLE)
}
