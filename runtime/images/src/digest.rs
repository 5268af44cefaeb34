//! Digests: names of content which the content can be checked against.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use thiserror::Error;

/// `sha256:<64 hex>` or `sha512:<128 hex>`, lower case; so it is also safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is no digest. The messages are those of the container ecosystem's Go code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidDigest {
    /// No `algorithm:hex`, or characters that are not lower-case hexadecimal.
    #[error("invalid checksum digest format")]
    Format,
    /// The hexadecimal part has the wrong length for its algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// Neither sha256 nor sha512.
    #[error("unsupported digest algorithm")]
    Algorithm,
}

impl Digest {
    /// The digest of bytes in memory, by sha256.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether it is the digest of these bytes; if not, which is, by the same algorithm.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Self> {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        let actual = hasher.finish();
        if actual == *self { Ok(()) } else { Err(actual) }
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// The hexadecimal part.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hasher of this digest's algorithm, to check content with.
    pub fn hasher(&self) -> Hasher {
        match self.algorithm() {
            "sha512" => Hasher::Sha512(Box::default()),
            _ => Hasher::sha256(),
        }
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (algorithm, hex) = text.split_once(':').ok_or(InvalidDigest::Format)?;
        let well_formed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if algorithm.is_empty() || !algorithm.bytes().all(|byte| well_formed(byte) || b".+_-".contains(&byte)) {
            return Err(InvalidDigest::Format);
        }
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(InvalidDigest::Algorithm),
        };
        if hex.len() != length {
            return Err(InvalidDigest::Length);
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidDigest::Format);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Hashes content as it comes.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// What nearly all content is named by.
    Sha256(Box<sha2::Sha256>),
    /// The specification's other algorithm.
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// A hasher for content that has no name yet.
    pub fn sha256() -> Self {
        Self::Sha256(Box::default())
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest(format!("sha256:{}", hex::encode(hasher.finalize()))),
            Self::Sha512(hasher) => Digest(format!("sha512:{}", hex::encode(hasher.finalize()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_known_bytes_is_the_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(empty.parse::<Digest>().map(|digest| digest.hex().len()), Ok(64));
    }

    #[test]
    fn texts_that_are_no_digest_are_refused_with_the_reason() {
        let escape = format!("sha256:{}x", "../".repeat(21));
        let cases = [
            ("", InvalidDigest::Format),
            ("sha256", InvalidDigest::Format),
            (":abc", InvalidDigest::Format),
            ("sha256:", InvalidDigest::Length),
            ("sha256:abc", InvalidDigest::Length),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", InvalidDigest::Algorithm),
            (&escape, InvalidDigest::Format),
            ("sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", InvalidDigest::Format),
        ];
        for (text, reason) in cases {
            assert_eq!(text.parse::<Digest>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn sha512_is_checked_with_sha512() {
        let text = format!("sha512:{}", "0".repeat(128));
        let digest: Digest = text.parse().unwrap();
        let mut hasher = digest.hasher();
        hasher.update(b"");
        assert!(hasher.finish().as_str().starts_with("sha512:cf83e1357eefb8bd"));
    }
}
