//! Why no image could be made.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::format::Refusal;

/// Why no image could be made.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// A file that should go in.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no WebAssembly.
    #[error("{path}: {refusal}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// What it is.
        refusal: Refusal,
    },
    /// A path in the image that no image can have.
    #[error("`{0}` cannot be a path in an image: it must be absolute, without `..`")]
    Path(String),
    /// Two entries at one path, or one below a file.
    #[error("`{0}` is in the image twice")]
    Twice(String),
    /// The layer could not be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
}
