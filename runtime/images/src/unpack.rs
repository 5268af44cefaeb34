//! A layer's tar, unpacked into a directory of its own that overlay can use as a lower directory.
//!
//! - Each layer is unpacked alone, as docker's overlay2 does it; what it hides of the layers below is written in overlay's form:
//!   a whiteout is a character device 0/0, an opaque directory has the attribute `trusted.overlay.opaque`.
//! - Every path is resolved by the kernel inside the layer's directory (`openat2` with `RESOLVE_IN_ROOT`), so neither `..` nor
//!   symbolic links lead out of it, whoever races with whom.
//! - Dropped: devices and fifos, setuid and setgid bits, extended attributes. Directories keep no modification times.
//! - Nothing is held in memory but the piece in hand; entries, bytes and header sizes are bounded.

mod apply;
mod input;
mod path;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) use input::Input;
use thiserror::Error;
pub(crate) use tree::OPAQUE;

use crate::digest::Digest;

/// How much one layer may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Files, directories and links, also those directories that no entry names and its path needs. Default 1,000,000.
    pub entries: u64,
    /// Bytes of all files, holes included. Default 16 GiB.
    pub bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { entries: 1_000_000, bytes: 16 << 30 }
    }
}

/// Why a layer could not be unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive is damaged or truncated, or its compression is.
    #[error("the archive cannot be read: {0}")]
    Archive(io::Error),
    /// An entry that asks for what no entry may have.
    #[error("the entry {path} {problem}")]
    Entry {
        /// As the archive spells it.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An entry the file system would not take.
    #[error("the entry {path} cannot be written: {cause}")]
    Write {
        /// As the archive spells it.
        path: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// More entries than allowed.
    #[error("it has more than {0} entries")]
    TooManyEntries(u64),
    /// More bytes than allowed.
    #[error("it unpacks to more than {0} bytes")]
    TooManyBytes(u64),
    /// The archive itself is longer than what it may unpack to, with its headers.
    #[error("its archive is longer than the limits allow")]
    TooLong,
    /// A header longer than any true one.
    #[error("it has a header longer than {} bytes", input::LONGEST_HEADER)]
    HeaderTooLong,
    /// The configuration promised other content.
    #[error("it unpacks to {actual}, and the image's configuration says {expected}")]
    DiffId {
        /// Of the configuration.
        expected: Digest,
        /// Found.
        actual: Digest,
    },
    /// Nobody waits for it any more.
    #[error("the pull was given up")]
    Cancelled,
}

/// What became of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unpacked {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Devices and fifos, which are left out.
    pub(crate) skipped: u64,
}

/// Unpacks `layer` into the empty directory `into` and checks it against `diff_id`. Blocks; stops soon after `cancelled` is set.
pub(crate) fn unpack(
    layer: File,
    into: OwnedFd,
    diff_id: &Digest,
    limits: UnpackLimits,
    cancelled: &Arc<AtomicBool>,
) -> Result<Unpacked, UnpackError> {
    // Headers and padding included: two blocks for an entry, as many again for long names.
    let most = limits.bytes.saturating_add(limits.entries.saturating_mul(4 * 512)).saturating_add(1 << 20);
    let mut input = input::Input::new(layer, diff_id.hasher(), most, Arc::clone(cancelled))?;
    let unpacked = apply::apply(&input, tree::Tree::new(into, limits.entries), limits)?;
    let actual = input.finish()?;
    match actual == *diff_id {
        true => Ok(unpacked),
        false => Err(UnpackError::DiffId { expected: diff_id.clone(), actual }),
    }
}
