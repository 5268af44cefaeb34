//! What a child of a fork does first.

use std::io;

/// Makes this process's random generators draw numbers of their own.
///
/// A fork copies the state of `rand`'s thread generator: without this, two children draw the same numbers. Guests are
/// given the kernel's generator, which has no state in the process; this is for everything else. Call it in the child,
/// before any other thread is started.
///
/// Caveat: the standard library's keys of hash maps made by the forked thread cannot be changed and are the same in all
/// children; those of threads started later are their own.
pub fn reseed() -> io::Result<()> {
    rand::rng().reseed().map_err(|error| io::Error::other(format!("reseed the random generator: {error}")))
}
