//! Docker's configuration files: which credentials fit an image (kubelet: `credentialprovider/keyring.go`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use samara_images::{Credential, Reference};
use serde::Deserialize;

/// Names under which Docker Hub stands in such files.
const DOCKER_HUB: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// Credentials by the registries and paths that they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(Vec<(Pattern, Credential)>);

/// Text that is no such file.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error("not a docker configuration: {0}")]
    Json(#[from] serde_json::Error),
    #[error("credentials for {registry}: {problem}")]
    Entry { registry: String, problem: &'static str },
}

/// `*.example.com:5000/team`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    host: Vec<String>,
    port: Option<String>,
    path: String,
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl Keyring {
    /// Reads `.dockerconfigjson`.
    pub fn from_config_json(bytes: &[u8]) -> Result<Self, KeyringError> {
        let config: ConfigJson = serde_json::from_slice(bytes)?;
        Self::from_entries(config.auths)
    }

    /// Reads the older `.dockercfg`: the same without `auths` around it.
    pub fn from_config(bytes: &[u8]) -> Result<Self, KeyringError> {
        Self::from_entries(serde_json::from_slice(bytes)?)
    }

    fn from_entries(entries: BTreeMap<String, Entry>) -> Result<Self, KeyringError> {
        let mut keys = Vec::with_capacity(entries.len());
        for (registry, entry) in entries {
            let credential =
                entry.credential().map_err(|problem| KeyringError::Entry { registry: registry.clone(), problem })?;
            keys.push((Pattern::parse(&registry), credential));
        }
        Ok(Self(keys))
    }

    /// Adds another's.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// What fits the image, the most particular first.
    pub fn lookup(&self, image: &Reference) -> Vec<Credential> {
        let mut fitting: Vec<&(Pattern, Credential)> =
            self.0.iter().filter(|(pattern, _)| pattern.fits(image)).collect();
        fitting.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.path.len()));
        fitting.into_iter().map(|(_, credential)| credential.clone()).collect()
    }
}

impl Entry {
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

impl Pattern {
    fn parse(text: &str) -> Self {
        let text = text.trim_start_matches("https://").trim_start_matches("http://");
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        // Docker's own paths of API versions are no repositories.
        let path = if matches!(path.trim_matches('/'), "v1" | "v2") { "" } else { path };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !port.contains(']') => (host, Some(port.to_owned())),
            Some(_) | None => (host, None),
        };
        Self { host: host.split('.').map(str::to_lowercase).collect(), port, path: path.trim_matches('/').to_owned() }
    }

    fn fits(&self, image: &Reference) -> bool {
        let wanted = Self::parse(image.registry());
        let hub = |host: &[String]| DOCKER_HUB.contains(&host.join(".").as_str());
        let same_host = hub(&self.host) && hub(&wanted.host)
            || self.host.len() == wanted.host.len()
                && self.host.iter().zip(&wanted.host).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()));
        let path = image.repository();
        let same_path = path
            .strip_prefix(self.path.as_str())
            .is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        same_host && self.port == wanted.port && same_path
    }
}

/// `*` is any text and `?` any letter, within one part of a name.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => glob(rest, text) || text.split_first().is_some_and(|(_, text)| glob(pattern, text)),
        (Some((b'?', rest)), Some((_, text))) => glob(rest, text),
        (Some((letter, rest)), Some((other, text))) => letter == other && glob(rest, text),
        (None, Some(_)) | (Some(_), None) => false,
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
            "null",
            "{\"auths\": 1}",
            "{\"auths\": {\"r\": {\"auth\": \"!secret!\"}}}",
            "{\"auths\": {\"r\": {\"auth\": \"c2VjcmV0\"}}}",
        ] {
            let error = Keyring::from_config_json(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn stars_stay_within_a_part() {
        for (pattern, text, want) in [
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
    }
}
