//! What a registry, or the way to it, can answer instead of content.

use std::error::Error;
use std::time::Duration;

use oci_client::errors::{OciDistributionError, OciErrorCode};
use thiserror::Error;

/// A registry did not give what was asked for. Says which registry, and why.
#[derive(Debug, Error)]
#[error("registry {registry}: {failure}")]
pub struct RegistryError {
    /// Host and port.
    pub registry: String,
    /// Why.
    pub failure: RegistryFailure,
}

/// Why a registry did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryFailure {
    /// No connection: no such host, nobody listens, no trust in its certificate.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing came for too long.
    #[error("does not answer: {0}")]
    Timeout(String),
    /// The connection ended, or slowed down to nothing, in the middle.
    #[error("broke off: {0}")]
    BrokeOff(String),
    /// 401, or the token service refused.
    #[error("authentication is required or was refused (401){0}")]
    Unauthorized(Detail),
    /// 403.
    #[error("access is denied (403){0}")]
    Denied(Detail),
    /// 404: no such repository, tag, manifest or blob.
    #[error("not found (404){0}")]
    NotFound(Detail),
    /// 429.
    #[error("too many requests (429){detail}")]
    RateLimited {
        /// What it said.
        detail: Detail,
        /// When it said to come back.
        retry_after: Option<Duration>,
    },
    /// 5xx.
    #[error("has an internal error ({status}){detail}")]
    Server {
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: Detail,
    },
    /// Any other answer that no registry should give here.
    #[error("gave an unexpected answer: {0}")]
    Unexpected(String),
    /// The manifest's bytes are not what its digest says.
    #[error("sent content that is not what its digest says: {0}")]
    Digest(String),
}

/// What a registry said beside the status, cut to a length for a message. Prints as `: text`, or as nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail(String);

impl Detail {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(shorten(&text.into()))
    }
}

impl std::fmt::Display for Detail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.is_empty() {
            true => Ok(()),
            false => write!(formatter, ": {}", self.0),
        }
    }
}

/// A registry's text goes into events: one line, no control characters, not long.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 300;
    let words: Vec<&str> =
        text.split(|it: char| it.is_control() || it.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

impl RegistryFailure {
    /// Reads `oci-client`'s errors.
    #[expect(clippy::wildcard_enum_match_arm, reason = "errors that no registry should cause share one")]
    pub(super) fn from_client(error: OciDistributionError) -> Self {
        match error {
            OciDistributionError::RequestError(error) => Self::from_request(&error),
            OciDistributionError::IoError(error) => Self::from_stream(&error),
            OciDistributionError::UnauthorizedError { .. } => Self::Unauthorized(Detail::default()),
            OciDistributionError::AuthenticationFailure(reason) => Self::Unauthorized(Detail::new(said(&reason))),
            OciDistributionError::DigestError(error) => Self::Digest(error.to_string()),
            OciDistributionError::ServerError { code, message, .. } => Self::from_status(code, said(&message)),
            OciDistributionError::RegistryError { envelope, .. } => {
                let text: Vec<&str> = envelope.errors.iter().map(|error| error.message.as_str()).collect();
                let text = text.join("; ");
                let status = match envelope.errors.first().map(|error| &error.code) {
                    Some(
                        OciErrorCode::BlobUnknown
                        | OciErrorCode::ManifestUnknown
                        | OciErrorCode::ManifestBlobUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::NotFound,
                    ) => 404,
                    Some(OciErrorCode::Unauthorized) => 401,
                    Some(OciErrorCode::Denied) => 403,
                    Some(OciErrorCode::Toomanyrequests) => 429,
                    _ => 400,
                };
                Self::from_status(status, text)
            }
            other => Self::Unexpected(shorten(&other.to_string())),
        }
    }

    fn from_status(status: u16, text: String) -> Self {
        let detail = Detail::new(text);
        match status {
            401 => Self::Unauthorized(detail),
            403 => Self::Denied(detail),
            404 => Self::NotFound(detail),
            429 => Self::RateLimited { detail, retry_after: None },
            500..=599 => Self::Server { status, detail },
            _ => Self::Unexpected(format!("status {status}{detail}")),
        }
    }

    fn from_request(error: &reqwest::Error) -> Self {
        let text = shorten(&chain(error));
        if error.is_connect() {
            Self::Unreachable(text)
        } else if error.is_timeout() {
            Self::Timeout(text)
        } else if error.is_redirect() || error.is_builder() {
            Self::Unexpected(text)
        } else {
            Self::BrokeOff(text)
        }
    }

    /// An error in the middle of a body.
    pub(super) fn from_stream(error: &std::io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
        match inner {
            Some(error) if error.is_timeout() => Self::Timeout(shorten(&chain(error))),
            _ => Self::BrokeOff(shorten(&chain(error))),
        }
    }
}

/// The message in a registry's error document, or the text as it is.
fn said(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        message: String,
    }
    match serde_json::from_str::<Envelope>(body) {
        Ok(envelope) => {
            let messages: Vec<String> = envelope.errors.into_iter().map(|entry| entry.message).collect();
            messages.join("; ")
        }
        Err(_) => body.to_owned(),
    }
}

/// An error with its causes, without repeating what a cause already said.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_becomes_one_short_line() {
        assert_eq!(Detail::new("a\n\tb\u{7}c").to_string(), ": a b c");
        assert_eq!(Detail::new("").to_string(), "");
        assert!(Detail::new("x".repeat(10_000)).to_string().len() < 320);
        assert_eq!(said(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), "no");
        assert_eq!(said("<html>"), "<html>");
    }
}
