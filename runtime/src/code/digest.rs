//! Digests as images spell them: `sha256:` and 64 lower-case hex digits.

/// The hex part of a digest, safe to be a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Digest(String);

impl Digest {
    /// `None` if it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (hex.len() == 64 && hex.bytes().all(lower_hex)).then(|| Self(hex.to_owned()))
    }

    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_digest() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(Digest::parse(&format!("sha256:{hex}")), Some(Digest(hex.clone())));
        for wrong in [
            String::new(),
            hex.clone(),
            format!("sha512:{hex}"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:../{}", &hex[3..]),
        ] {
            assert_eq!(Digest::parse(&wrong), None, "{wrong:?}");
        }
    }
}
