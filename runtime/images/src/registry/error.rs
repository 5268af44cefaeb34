//! What a registry, or the way to it, can answer instead of content.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use reqwest::Url;
use thiserror::Error;

/// A registry did not give what was asked for. Says which registry, and why.
#[derive(Debug, Error)]
#[error("registry {registry}: {failure}{}", Mirrors(.mirrors))]
pub struct RegistryError {
    /// Host and port, as in the image's name.
    pub registry: String,
    /// Why: what the last place said that was asked, which is the registry itself unless the configuration has it otherwise.
    pub failure: RegistryFailure,
    /// What the places said which were asked before, as `host:port`.
    pub mirrors: Vec<(String, RegistryFailure)>,
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
    #[error("rate limited, too many requests (429){detail}{}", Later(*.retry_after))]
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
        /// When it said to come back.
        retry_after: Option<Duration>,
    },
    /// The service that gives out tokens for the registry failed.
    #[error("its token service {realm} {failure}")]
    TokenService {
        /// Where it is.
        realm: String,
        /// How it failed.
        failure: Box<RegistryFailure>,
    },
    /// Any other answer that no registry should give here.
    #[error("gave an unexpected answer: {0}")]
    Unexpected(String),
    /// The manifest's bytes are not what its digest says.
    #[error("sent content that is not what its digest says: {0}")]
    Digest(String),
    /// How to reach it is configured wrongly.
    #[error("cannot be used as configured: {0}")]
    Configuration(String),
}

impl RegistryFailure {
    /// An error of a request, or in the middle of a body.
    pub(super) fn from_request(mut error: reqwest::Error) -> Self {
        // Storage services' addresses are signed: who has one may read what is private.
        let url = error.url_mut().map(|url| public(url));
        let error = error.without_url();
        let text = shorten(&match url {
            Some(url) => format!("{}: {url}", chain(&error)),
            None => chain(&error),
        });
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

    /// Something that the configuration names cannot be used.
    pub(super) fn configuration(error: &dyn Error) -> Self {
        Self::Configuration(shorten(&chain(error)))
    }

    /// Whether the place itself is the trouble, so that it need not be asked again for a while.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout(_) | Self::Configuration(_))
    }

    /// Whether another credential might do better: whatever a registry or its token service answers may depend on who asks. Limits are
    /// of one user, what is private is hidden behind 404, a token that ended is a bad request (400) in OAuth 2.
    pub(crate) fn may_depend_on_credential(&self) -> bool {
        match self {
            Self::Unauthorized(_)
            | Self::Denied(_)
            | Self::NotFound(_)
            | Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::Unexpected(_) => true,
            Self::TokenService { failure, .. } => failure.may_depend_on_credential(),
            Self::Unreachable(_) | Self::Timeout(_) | Self::BrokeOff(_) | Self::Digest(_) | Self::Configuration(_) => {
                false
            }
        }
    }
}

/// What a registry said beside the status, cut to a length for a message. Prints as `: text`, or as nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail(String);

impl Detail {
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self(shorten(text.as_ref()))
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => Ok(()),
            false => write!(formatter, ": {}", self.0),
        }
    }
}

struct Mirrors<'a>(&'a [(String, RegistryFailure)]);

impl fmt::Display for Mirrors<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, failure)| write!(formatter, "; mirror {name}: {failure}"))
    }
}

struct Later(Option<Duration>);

impl fmt::Display for Later {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(formatter, "; it says to come back in {} s", time.as_secs()),
            None => Ok(()),
        }
    }
}

/// An address without its query and without a user's name and password.
pub(super) fn public(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Refused only by addresses that have no place for them.
    let _none = url.set_username("").and_then(|()| url.set_password(None));
    url.into()
}

/// A registry's text goes into events: one line, no control characters, not long.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 300;
    let is_gap = |letter: char| letter.is_control() || letter.is_whitespace();
    let words: Vec<&str> = text.split(is_gap).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
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
    fn a_detail_is_one_short_line() {
        assert_eq!(Detail::new("a\n\tb\u{7}c").to_string(), ": a b c");
        assert_eq!(Detail::new(" ").to_string(), "");
        assert!(Detail::new("ö".repeat(10_000)).to_string().chars().count() < 320);
    }

    #[test]
    fn an_address_is_shown_without_what_is_secret_in_it() {
        for (url, shown) in [
            ("https://s3.test/b/blob?X-Amz-Signature=secret#x", "https://s3.test/b/blob"),
            ("http://user:secret@r.test:5000/v2/", "http://r.test:5000/v2/"),
            ("data:text", "data:text"),
        ] {
            assert_eq!(public(&Url::parse(url).unwrap()), shown);
        }
    }
}
