//! Why a layout could not be read or written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::digest::Digest;
use crate::reference::{InvalidReference, Reference};
use crate::store::StoreError;
use crate::unpack::UnpackError;

/// Why a layout could not be read or written.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A file of it.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The archive is damaged, or longer than allowed.
    #[error(transparent)]
    Archive(#[from] UnpackError),
    /// It is something else.
    #[error("{0}")]
    Format(String),
    /// A file or the whole is longer than allowed.
    #[error("{name} is longer than {longest} bytes")]
    TooLong {
        /// What.
        name: String,
        /// As configured.
        longest: u64,
    },
    /// Nothing says what an image in it is called.
    #[error("the image {0} in it has no name of its own; give one")]
    NoName(Digest),
    /// An image in it has a name that is none.
    #[error("the image {digest} in it is called `{name}`: {error}")]
    Name {
        /// Which image.
        digest: Digest,
        /// As written.
        name: String,
        /// What is wrong with that.
        error: InvalidReference,
    },
    /// Not in the store.
    #[error("there is no image {0}")]
    NoImage(Reference),
    /// The store was told not to keep layers as they came.
    #[error("the store has not kept {0}, which the image {1} is made of")]
    NotKept(Digest, Reference),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layout, or what was unpacked of it, could not be written.
    #[error("cannot write the layout's content: {0}")]
    Write(io::Error),
}
