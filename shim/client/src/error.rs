//! What a call to the shim can come back with.

use std::path::PathBuf;

use ttrpc::Code;

/// A failed call. `operation` and `id` say which.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ShimError {
    /// No such task or exec.
    #[error("{operation} {id}: {message}")]
    NotFound { operation: &'static str, id: String, message: String },
    /// The id is taken.
    #[error("{operation} {id}: {message}")]
    AlreadyExists { operation: &'static str, id: String, message: String },
    /// The task is in a state in which this cannot be done.
    #[error("{operation} {id}: {message}")]
    FailedPrecondition { operation: &'static str, id: String, message: String },
    /// The request, the bundle's `config.json` or the wasm is wrong: the same again will fail again.
    #[error("{operation} {id}: {message}")]
    InvalidArgument { operation: &'static str, id: String, message: String },
    /// The front is gone or the connection broke: connect again, and start a new front if that fails.
    #[error("{operation} {id}: shim unavailable: {message}")]
    Unavailable { operation: &'static str, id: String, message: String },
    /// Anything else that the shim said.
    #[error("{operation} {id}: {message}")]
    Other { operation: &'static str, id: String, message: String },
    /// No front listens there.
    #[error("connect to shim at {}: {message}", socket.display())]
    Connect { socket: PathBuf, message: String },
}

impl ShimError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "ttrpc's codes, of which a client tells five apart")]
    pub(crate) fn of(operation: &'static str, id: &str, error: ttrpc::Error) -> Self {
        let id = id.to_owned();
        let ttrpc::Error::RpcStatus(status) = &error else {
            return Self::Unavailable { operation, id, message: error.to_string() };
        };
        let message = status.message().to_owned();
        match status.code() {
            Code::NOT_FOUND => Self::NotFound { operation, id, message },
            Code::ALREADY_EXISTS => Self::AlreadyExists { operation, id, message },
            Code::FAILED_PRECONDITION => Self::FailedPrecondition { operation, id, message },
            Code::INVALID_ARGUMENT => Self::InvalidArgument { operation, id, message },
            Code::UNAVAILABLE => Self::Unavailable { operation, id, message },
            code => Self::Other { operation, id, message: format!("{message} ({code:?})") },
        }
    }

    /// The call that failed, such as `create`; `connect` for one that reached nobody.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::NotFound { operation, .. }
            | Self::AlreadyExists { operation, .. }
            | Self::FailedPrecondition { operation, .. }
            | Self::InvalidArgument { operation, .. }
            | Self::Unavailable { operation, .. }
            | Self::Other { operation, .. } => operation,
            Self::Connect { .. } => "connect",
        }
    }

    /// The shim's own words, without the operation.
    pub fn message(&self) -> &str {
        match self {
            Self::NotFound { message, .. }
            | Self::AlreadyExists { message, .. }
            | Self::FailedPrecondition { message, .. }
            | Self::InvalidArgument { message, .. }
            | Self::Unavailable { message, .. }
            | Self::Other { message, .. }
            | Self::Connect { message, .. } => message,
        }
    }
}
