//! Names of images as users write them, by the grammar and the defaults of docker (`distribution/reference`), which the kubelet follows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::{Digest, InvalidDigest};

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_LEGACY: &str = "index.docker.io";
const LIBRARY: &str = "library/";
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

/// A fully spelt-out image name: registry, repository, and a tag, a digest or both.
///
/// `nginx` is `docker.io/library/nginx:latest`; the tag defaults to `latest` only where there is no digest either.
/// With both, the digest decides what is pulled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image: the kubelet's `InvalidImageName`. The messages are docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidReference {
    /// Does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Docker refuses upper case in repositories, and says which.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The repository is longer than registries take.
    #[error("repository name must not be more than {LONGEST_REPOSITORY} characters")]
    TooLong,
    /// Could be mistaken for an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    ImageId(String),
    /// What follows `@` is no digest.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl Reference {
    /// Reads what a user wrote and fills in docker's defaults.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::ImageId(text.to_owned()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(name);
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let repository = match registry == DOCKER_HUB && !repository.contains('/') {
            true => format!("{LIBRARY}{repository}"),
            false => repository.to_owned(),
        };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidReference::Uppercase(repository));
        }
        if !is_registry(registry) || !repository.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
            return Err(InvalidReference::Format);
        }
        if repository.len() > LONGEST_REPOSITORY {
            return Err(InvalidReference::TooLong);
        }
        let digest = digest.map(Digest::from_str).transpose()?;
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Host and, if any, port: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path within the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// What the user wrote after the colon, or `latest`; `None` if only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The pin, if any.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository at a digest, without a tag.
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Registry and repository: what `imagePullSecrets` and credential providers are matched against.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// The part before the first slash is a registry if it looks like one (docker's `splitDockerDomain`).
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((DOCKER_HUB_LEGACY, rest)) => (DOCKER_HUB, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DOCKER_HUB, name),
    }
}

/// `host[:port]`, where the host is a domain name, an IPv4 address or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                return address.parse::<std::net::Ipv6Addr>().is_ok()
                    && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 255 && host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        let run = rest.iter().take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        let Some(separator) = rest.first() else { return true };
        let length = rest.iter().take_while(|byte| *byte == separator).count();
        match (separator, length) {
            (b'.', 1) | (b'_', 1 | 2) | (b'-', _) => rest = &rest[length..],
            _ => return false,
        }
    }
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_get_dockers_defaults() {
        let pinned = format!("alpine@sha256:{HEX}");
        let pinned_full = format!("docker.io/library/alpine@sha256:{HEX}");
        let both = format!("localhost/a:1@sha256:{HEX}");
        let cases = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("Registry/app", "Registry/app:latest"),
            ("ghcr.io/a__b/c-d---e:_x.Y-z", "ghcr.io/a__b/c-d---e:_x.Y-z"),
            (&pinned, &pinned_full),
            (&both, &both),
        ];
        for (text, whole) in cases {
            assert_eq!(Reference::parse(text).map(|it| it.to_string()).as_deref(), Ok(whole), "{text}");
        }
    }

    #[test]
    fn names_that_name_no_image_are_refused_in_dockers_words() {
        let long = format!("localhost/{}", "a".repeat(256));
        let long_tag = format!("a:{}", "t".repeat(129));
        let uppercase = |name: &str| InvalidReference::Uppercase(name.to_owned());
        let cases = [
            ("", InvalidReference::Format),
            (" ", InvalidReference::Format),
            ("a b", InvalidReference::Format),
            ("nginx:", InvalidReference::Format),
            (":latest", InvalidReference::Format),
            ("a//b", InvalidReference::Format),
            ("a/../b", InvalidReference::Format),
            ("-a", InvalidReference::Format),
            ("a___b", InvalidReference::Format),
            ("a..b", InvalidReference::Format),
            ("localhost:99999/a", InvalidReference::Format),
            ("http://localhost/a", InvalidReference::Format),
            ("exa_mple.com/a", InvalidReference::Format),
            ("[::g]:1/a", InvalidReference::Format),
            ("[::1/a", InvalidReference::Format),
            (&long_tag, InvalidReference::Format),
            ("Nginx", uppercase("library/Nginx")),
            ("localhost:5000/App", uppercase("App")),
            (HEX, InvalidReference::ImageId(HEX.to_owned())),
            ("a@sha256:1234", InvalidReference::Digest(InvalidDigest::Length)),
            ("a@md5:d41d8cd98f00b204e9800998ecf8427e", InvalidReference::Digest(InvalidDigest::Algorithm)),
            ("a@", InvalidReference::Digest(InvalidDigest::Format)),
            (&long, InvalidReference::TooLong),
        ];
        for (text, reason) in cases {
            assert_eq!(Reference::parse(text), Err(reason), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_out_reads_back_the_same(
            registry in "(|localhost/|[a-z]{1,5}\\.[a-z]{2,3}/|10\\.0\\.0\\.1:[1-9][0-9]{0,3}/)",
            // A first part with a dot would be a registry.
            repository in "[a-z0-9]{1,6}((_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}(\\.[a-z0-9]{1,4}){0,2}){0,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}"),
            pinned in any::<bool>(),
        ) {
            let mut text = format!("{registry}{repository}");
            if let Some(tag) = &tag { text += &format!(":{tag}"); }
            if pinned { text += &format!("@sha256:{HEX}"); }
            let first = Reference::parse(&text).unwrap();
            let second = Reference::parse(&first.to_string()).unwrap();
            prop_assert_eq!(&first, &second);
            let json = serde_json::to_string(&first).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Reference>(&json).unwrap(), &first);
        }

        #[test]
        fn no_text_makes_it_panic_or_escape_a_path(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert!(!reference.repository().split('/').any(|part| part.is_empty() || part.starts_with('.')));
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
            }
        }
    }
}
