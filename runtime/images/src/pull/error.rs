//! Why an image could not be pulled, in words fit for a pod's status, and when to try again.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::digest::Digest;
use crate::format::Refusal;
use crate::layout::LayoutError;
use crate::reference::Reference;
use crate::registry::{RegistryError, RegistryFailure};
use crate::store::{LayerError, StoreError};
use crate::unpack::UnpackError;

/// An image could not be pulled. Prints as one line that names the image and the cause: the message of `ErrImagePull`.
#[derive(Debug)]
pub struct PullError {
    /// Which image.
    pub reference: Reference,
    /// Why not.
    pub cause: PullCause,
}

/// Why an image could not be pulled.
#[derive(Debug, Error)]
pub enum PullCause {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image is not one that can run here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A blob came longer or shorter than its manifest says.
    #[error("blob {digest} has {actual} bytes, and its manifest says {expected}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// By the manifest.
        expected: u64,
        /// What came, at least.
        actual: u64,
    },
    /// A blob's bytes are not what its name says: damaged on the way, or a lie.
    #[error("blob {expected} has other content: its digest is {actual}")]
    Digest {
        /// Its name.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A layer could not be unpacked.
    #[error("layer {digest}: {error}")]
    Layer {
        /// Which layer.
        digest: Digest,
        /// Why not.
        error: UnpackError,
    },
    /// A layout's files.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// This machine's disk.
    #[error("{}", with_causes(.0))]
    Store(StoreError),
    /// Each of several credentials was refused, and not in the same words.
    #[error("{}", in_turn(.0))]
    Credentials(Vec<PullCause>),
    /// Somebody removed the content right after it was fetched.
    #[error("its content vanished from the store")]
    Vanished,
}

/// When it makes sense to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At once: the cause is likely gone.
    Now,
    /// With back-off; not before so long if the registry said so.
    Later(Option<Duration>),
    /// Not until the image changes; back off as far as possible.
    Never,
}

impl Retry {
    fn not_before(self) -> Option<Duration> {
        match self {
            Self::Later(time) => time,
            Self::Now | Self::Never => None,
        }
    }
}

impl PullError {
    pub(super) fn new(reference: &Reference, cause: PullCause) -> Self {
        Self { reference: reference.clone(), cause }
    }

    /// When it makes sense to try again.
    pub fn retry(&self) -> Retry {
        self.cause.retry()
    }
}

impl PullCause {
    fn retry(&self) -> Retry {
        match self {
            Self::Registry(error) => after(&error.failure),
            Self::Refused(_) => Retry::Never,
            Self::Layer { error, .. } => match error {
                UnpackError::Write { .. } => Retry::Later(None),
                UnpackError::Cancelled => Retry::Now,
                UnpackError::Archive(_)
                | UnpackError::Entry { .. }
                | UnpackError::TooManyEntries(_)
                | UnpackError::TooManyBytes(_)
                | UnpackError::TooLong
                | UnpackError::HeaderTooLong
                | UnpackError::DiffId { .. } => Retry::Never,
            },
            Self::Size { .. } | Self::Digest { .. } | Self::Layout(_) | Self::Store(_) => Retry::Later(None),
            // Not before the last of them may be shown again.
            Self::Credentials(causes) => {
                Retry::Later(causes.iter().filter_map(|cause| cause.retry().not_before()).max())
            }
            Self::Vanished => Retry::Now,
        }
    }

    /// What came of several credentials, each cause once.
    pub(super) fn of_credentials(mut causes: Vec<Self>) -> Self {
        let mut said = HashSet::new();
        causes.retain(|cause| said.insert(cause.to_string()));
        match causes.len() {
            0 | 1 => causes.pop().unwrap_or(Self::Vanished),
            _ => Self::Credentials(causes),
        }
    }

    pub(super) fn layer(digest: &Digest, error: LayerError) -> Self {
        match error {
            LayerError::Store(error) => error.into(),
            LayerError::Unpack(error) => Self::Layer { digest: digest.clone(), error },
        }
    }

    /// Whether another credential might do better.
    pub(super) fn may_depend_on_credential(&self) -> bool {
        matches!(self, Self::Registry(error) if error.failure.may_depend_on_credential())
    }
}

fn after(failure: &RegistryFailure) -> Retry {
    match failure {
        RegistryFailure::BrokeOff(_) => Retry::Now,
        RegistryFailure::RateLimited { retry_after, .. } | RegistryFailure::Server { retry_after, .. } => {
            Retry::Later(*retry_after)
        }
        RegistryFailure::TokenService { failure, .. } => after(failure),
        RegistryFailure::Unreachable(_)
        | RegistryFailure::Timeout(_)
        | RegistryFailure::Unauthorized(_)
        | RegistryFailure::Denied(_)
        | RegistryFailure::NotFound(_)
        | RegistryFailure::Unexpected(_)
        | RegistryFailure::Digest(_)
        | RegistryFailure::Configuration(_) => Retry::Later(None),
    }
}

impl From<StoreError> for PullCause {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Digest { expected, actual } => Self::Digest { expected, actual },
            other @ (StoreError::Io { .. } | StoreError::Path(_) | StoreError::Worker) => Self::Store(other),
        }
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "failed to pull image \"{}\": {}", self.reference, self.cause)
    }
}

/// The causes are in the message already, which has to stand alone in a pod's status.
impl Error for PullError {}

fn in_turn(causes: &[PullCause]) -> String {
    let causes: Vec<String> = causes.iter().map(PullCause::to_string).collect();
    causes.join("; with another credential: ")
}

fn with_causes(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
