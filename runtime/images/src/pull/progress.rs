//! What a pull tells while it goes on.

use crate::digest::Digest;

/// Hears of the progress of a pull or a push. Called often; must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn report(&self, event: ProgressEvent<'_>);
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressEvent<'a> {
    /// The name stands for this manifest.
    Resolved {
        /// Of the manifest.
        digest: &'a Digest,
        /// Bytes of all layers; of a push, of all blobs.
        size: u64,
    },
    /// A layer or module begins, or goes on, to be fetched.
    Fetching {
        /// Which.
        digest: &'a Digest,
        /// Its length.
        size: u64,
        /// How much of it is here.
        fetched: u64,
    },
    /// A blob goes to the registry. One that is there already is told once, as sent.
    Sending {
        /// Which.
        digest: &'a Digest,
        /// Its length.
        size: u64,
        /// How much of it was taken.
        sent: u64,
    },
    /// A layer is whole and is being unpacked.
    Unpacking {
        /// Which.
        digest: &'a Digest,
    },
    /// A layer is a directory.
    Unpacked {
        /// Which.
        digest: &'a Digest,
    },
}

/// Nobody listens.
impl Progress for () {
    fn report(&self, _: ProgressEvent<'_>) {}
}
