//! What a registry is shown.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// What a registry is shown. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Nothing.
    Anonymous,
    /// User name and password, given to the registry or to the token service it names.
    Basic {
        /// May be empty.
        username: String,
        /// Or an access token in its place.
        password: String,
    },
    /// A bearer token for the registry itself.
    Bearer(String),
    /// An identity token: what `docker login` leaves for registries that sign in by OAuth 2. The token service gives an access
    /// token for it.
    Identity(String),
}

impl Credential {
    /// Tells whether two are the same without having either. SHA-256, in hex.
    pub fn fingerprint(&self) -> String {
        let parts = match self {
            Self::Anonymous => vec!["anonymous"],
            Self::Basic { username, password } => vec!["basic", username, password],
            Self::Bearer(token) => vec!["bearer", token],
            Self::Identity(token) => vec!["identity", token],
        };
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hex::encode(hasher.finalize())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => formatter.write_str("Anonymous"),
            Self::Basic { username, .. } => {
                formatter.debug_struct("Basic").field("username", username).finish_non_exhaustive()
            }
            Self::Bearer(_) => formatter.debug_struct("Bearer").finish_non_exhaustive(),
            Self::Identity(_) => formatter.debug_struct("Identity").finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_credentials_have_the_same_fingerprint() {
        let basic =
            |username: &str, password: &str| Credential::Basic { username: username.into(), password: password.into() };
        let all = [
            Credential::Anonymous,
            basic("", ""),
            basic("a", "bc"),
            basic("ab", "c"),
            Credential::Bearer("abc".into()),
            Credential::Identity("abc".into()),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.fingerprint(), one.clone().fingerprint());
            assert!(all[at + 1..].iter().all(|other| one.fingerprint() != other.fingerprint()), "{one:?}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let basic = Credential::Basic { username: "user".into(), password: "open sesame".into() };
        let bearer = Credential::Bearer("open sesame".into());
        let identity = Credential::Identity("open sesame".into());
        assert!(!format!("{basic:?}{bearer:?}{identity:?}").contains("sesame"));
    }
}
