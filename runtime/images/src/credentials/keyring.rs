//! Credentials by the images that they are for, in the form of docker's files (kubelet: `credentialprovider/keyring.go`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer};

use super::pattern::Pattern;
use crate::reference::Reference;
use crate::registry::Credential;

/// Credentials by the registries and paths that they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(Vec<(Pattern, Credential)>);

/// A credential that fits an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The registry or path that it is for, as written, without the scheme and the version of the API.
    pub pattern: String,
    /// What to show.
    pub credential: Credential,
}

/// Text that is no such file.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Not JSON, or not of this form.
    #[error("not a docker configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// One entry.
    #[error("credentials for {registry}: {problem}")]
    Entry {
        /// As written.
        registry: String,
        /// What is wrong. Never with the secret.
        problem: &'static str,
    },
}

/// As in a file: registries, some without anything.
pub(super) type Entries = BTreeMap<String, Option<Entry>>;

#[derive(Deserialize, Default)]
struct ConfigJson {
    #[serde(default, deserialize_with = "null_is_nothing")]
    auths: Entries,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    #[serde(deserialize_with = "null_is_nothing")]
    username: String,
    #[serde(deserialize_with = "null_is_nothing")]
    password: String,
    #[serde(deserialize_with = "null_is_nothing")]
    auth: String,
    #[serde(deserialize_with = "null_is_nothing")]
    identitytoken: String,
    #[serde(deserialize_with = "null_is_nothing")]
    registrytoken: String,
}

/// What Go reads: `null` is as good as not written.
pub(super) fn null_is_nothing<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Keyring {
    /// Reads `.dockerconfigjson`.
    pub fn from_config_json(bytes: &[u8]) -> Result<Self, KeyringError> {
        let config: Option<ConfigJson> = serde_json::from_slice(bytes)?;
        Self::from_entries(config.unwrap_or_default().auths)
    }

    /// Reads the older `.dockercfg`: the same without `auths` around it.
    pub fn from_config(bytes: &[u8]) -> Result<Self, KeyringError> {
        let entries: Option<Entries> = serde_json::from_slice(bytes)?;
        Self::from_entries(entries.unwrap_or_default())
    }

    pub(super) fn from_entries(entries: Entries) -> Result<Self, KeyringError> {
        let mut keys = Vec::with_capacity(entries.len());
        for (registry, entry) in entries {
            // `docker login` with a credential helper leaves empty entries behind.
            let Some(entry) = entry.filter(|entry| !entry.is_empty()) else { continue };
            let credential =
                entry.credential().map_err(|problem| KeyringError::Entry { registry: registry.clone(), problem })?;
            keys.push((Pattern::parse(&registry), credential));
        }
        Ok(Self(keys))
    }

    /// Adds another's, to be tried after those which are here and fit as well.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// One credential for one registry or path.
    pub fn insert(&mut self, registry: &str, credential: Credential) {
        self.0.push((Pattern::parse(registry), credential));
    }

    /// Whether one of the passwords is this.
    pub(super) fn has_password(&self, text: &str) -> bool {
        self.0.iter().any(|(_, it)| matches!(it, Credential::Basic { password, .. } if password == text))
    }

    /// What fits the image, the most particular first.
    pub fn lookup(&self, image: &Reference) -> Vec<Credential> {
        self.matches(image).into_iter().map(|found| found.credential).collect()
    }

    /// The same, with what each is written for.
    pub fn matches(&self, image: &Reference) -> Vec<Match> {
        let fitting = self.0.iter().filter(|(pattern, _)| pattern.fits(image));
        let fitting = fitting
            .map(|(pattern, credential)| Match { pattern: pattern.text().to_owned(), credential: credential.clone() });
        let mut fitting: Vec<Match> = fitting.collect();
        fitting.sort_by(|one, other| one.order().cmp(&other.order()));
        fitting
    }
}

impl Match {
    /// The kubelet's order: by the text, backwards, so that a longer path comes before its beginning and stars come last.
    pub fn order(&self) -> Reverse<&str> {
        Reverse(&self.pattern)
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        [&self.username, &self.password, &self.auth, &self.identitytoken, &self.registrytoken]
            .iter()
            .all(|it| it.is_empty())
    }

    fn credential(self) -> Result<Credential, &'static str> {
        if !self.registrytoken.is_empty() {
            return Ok(Credential::Bearer(self.registrytoken));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Credential::Identity(self.identitytoken));
        }
        if self.auth.is_empty() {
            return Ok(Credential::Basic { username: self.username, password: self.password });
        }
        let auth = self.auth.trim();
        let bytes =
            STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).map_err(|_| "auth is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "auth is not text")?;
        let (username, password) = text.split_once(':').ok_or("auth is not user:password")?;
        // Some tools pad the decoded text.
        Ok(Credential::Basic { username: username.to_owned(), password: password.trim_end_matches('\0').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(auths: &str) -> Keyring {
        Keyring::from_config_json(format!("{{\"auths\":{auths}}}").as_bytes()).unwrap()
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        let all = keyring.lookup(&Reference::parse(image).unwrap());
        all.into_iter()
            .map(|credential| match credential {
                Credential::Basic { username, password } => format!("{username}:{password}"),
                Credential::Bearer(token) => format!("bearer {token}"),
                Credential::Identity(token) => format!("identity {token}"),
                Credential::Anonymous => String::new(),
            })
            .collect()
    }

    #[test]
    fn credentials_fit_the_registry_its_port_and_the_path() {
        let ring = keyring(
            r#"{"reg.example:5000": {"username": "a", "password": "1"},
                "reg.example:5000/team": {"username": "b", "password": "2"},
                "*.example": {"username": "c", "password": "3"},
                "https://index.docker.io/v1/": {"auth": "ZDo0"}}"#,
        );
        assert_eq!(users(&ring, "reg.example:5000/x/y:1"), ["a:1"]);
        assert_eq!(users(&ring, "reg.example:5000/team/y:1"), ["b:2", "a:1"]);
        assert_eq!(users(&ring, "reg.example:5000/teamwork:1"), ["a:1"]);
        assert_eq!(users(&ring, "reg.example/x:1"), ["c:3"]);
        assert_eq!(users(&ring, "a.b.example/x:1"), Vec::<String>::new());
        assert_eq!(users(&ring, "busybox"), ["d:4"]);
        assert_eq!(users(&ring, "other.test/x"), Vec::<String>::new());
    }

    #[test]
    fn a_path_of_the_api_is_none_of_a_repository() {
        for (pattern, image, fits) in [
            ("https://r.test/v2/team", "r.test/team/app", true),
            ("https://r.test/v1/team/", "r.test/team", true),
            ("r.test/v2/team", "r.test/teamwork", false),
            ("r.test/v2/team", "r.test/other", false),
            ("r.test/v2/", "r.test/app", true),
            ("r.test/v2", "r.test/app", true),
            ("r.test/v20/team", "r.test/team", false),
            ("https://index.docker.io/v1/", "nginx", true),
        ] {
            let ring = keyring(&format!(r#"{{"{pattern}": {{"auth": "dTpw"}}}}"#));
            assert_eq!(!users(&ring, image).is_empty(), fits, "{pattern} {image}");
        }
        let ring = keyring(
            r#"{"r.test/other": {"auth": "eDp4"}, "r.test/v2/team": {"auth": "dTpw"}, "r.test": {"auth": "YTpi"}}"#,
        );
        assert_eq!(users(&ring, "r.test/team/app"), ["u:p", "a:b"]);
    }

    #[test]
    fn what_is_null_is_not_there() {
        let image = "r.test/x";
        let nothing = Vec::<String>::new();
        assert_eq!(users(&keyring("null"), image), nothing);
        assert_eq!(users(&keyring(r#"{"r.test": null}"#), image), nothing);
        assert_eq!(users(&keyring(r#"{"r.test": {"auth": null, "username": null}}"#), image), nothing);
        assert_eq!(users(&keyring(r#"{"r.test": {"auth": "dTpw", "identitytoken": null}}"#), image), ["u:p"]);
        assert_eq!(Keyring::from_config_json(b"null").unwrap(), Keyring::default());
        assert_eq!(Keyring::from_config(b"null").unwrap(), Keyring::default());
    }

    #[test]
    fn every_way_to_write_a_credential_is_read() {
        let image = "r.test/x";
        assert_eq!(users(&keyring(r#"{"r.test": {"auth": "dTpwOnE="}}"#), image), ["u:p:q"]);
        assert_eq!(users(&keyring(r#"{"r.test": {"auth": "dTpw"}}"#), image), ["u:p"]);
        assert_eq!(users(&keyring(r#"{"r.test": {"registrytoken": "t"}}"#), image), ["bearer t"]);
        assert_eq!(users(&keyring(r#"{"r.test": {"auth": "dTpw", "identitytoken": "t"}}"#), image), ["identity t"]);
        let old = Keyring::from_config(br#"{"r.test": {"username": "u", "password": "p", "email": "e"}}"#).unwrap();
        assert_eq!(users(&old, image), ["u:p"]);
    }

    #[test]
    fn a_broken_file_is_told_without_its_secrets() {
        for text in [
            "",
            "{\"auths\": 1}",
            "{\"auths\": {\"r\": {\"auth\": \"!secret!\"}}}",
            "{\"auths\": {\"r\": {\"auth\": \"c2VjcmV0\"}}}",
        ] {
            let error = Keyring::from_config_json(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
