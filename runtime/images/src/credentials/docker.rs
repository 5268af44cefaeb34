//! `config.json` of docker, podman and their kin: credentials in it, and helpers that keep them elsewhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::exec::{Exec, ExecError, LONGEST_TIME};
use super::keyring::{Entries, null_is_nothing};
use super::{Keyring, KeyringError};
use crate::reference::Reference;
use crate::registry::Credential;

/// What docker calls its Hub when it asks a helper.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that its secret is an identity token.
const IDENTITY_TOKEN: &str = "<token>";
const LONGEST: u64 = 4 << 20;

/// A docker configuration, as far as it is about credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig {
    keys: Keyring,
    /// By registry.
    helpers: BTreeMap<String, String>,
    /// For all other registries.
    store: Option<String>,
}

/// A docker configuration that cannot be used.
#[derive(Debug, Error)]
pub enum DockerConfigError {
    /// The file.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its content.
    #[error("{path}: {source}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: KeyringError,
    },
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire {
    #[serde(deserialize_with = "null_is_nothing")]
    auths: Entries,
    #[serde(rename = "credHelpers", deserialize_with = "null_is_nothing")]
    helpers: BTreeMap<String, Option<String>>,
    #[serde(rename = "credsStore", deserialize_with = "null_is_nothing")]
    store: String,
}

impl DockerConfig {
    /// Reads a file; one that is not there is empty.
    pub fn read(path: &Path) -> Result<Self, DockerConfigError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)) {
            Ok(_) => Self::parse(&bytes).map_err(|source| DockerConfigError::Content { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DockerConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads a file's content.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let wire: Option<Wire> = serde_json::from_slice(bytes)?;
        let wire = wire.unwrap_or_default();
        let store = Some(wire.store).filter(|store| !store.is_empty());
        let helpers = wire.helpers.into_iter().filter_map(|(registry, helper)| Some((registry, helper?)));
        Ok(Self { keys: Keyring::from_entries(wire.auths)?, helpers: helpers.collect(), store })
    }

    /// What the helper of the image's registry answers, if there is one.
    pub async fn helped(&self, image: &Reference) -> Result<Option<Credential>, ExecError> {
        match self.helper(image) {
            Some((helper, server)) => ask(helper, server).await,
            None => Ok(None),
        }
    }

    /// What the file itself holds for an image, the most particular first.
    pub fn held(&self, image: &Reference) -> Vec<Credential> {
        self.keys.lookup(image)
    }

    /// The helper for an image's registry, and what it calls that registry.
    fn helper<'a>(&'a self, image: &'a Reference) -> Option<(&'a str, &'a str)> {
        let registry = image.registry();
        let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
        let own = [server, registry, "index.docker.io"];
        let known = if registry == "docker.io" { &own[..] } else { &own[..1] };
        let helper = known.iter().find_map(|name| self.helpers.get(*name)).or(self.store.as_ref())?;
        Some((helper.as_str(), server))
    }
}

/// `docker-credential-<helper> get`: the server in, JSON out. `None`: it has none for this server.
async fn ask(helper: &str, server: &str) -> Result<Option<Credential>, ExecError> {
    let program = format!("docker-credential-{helper}");
    if helper.contains('/') {
        return Err(ExecError::Run { program, source: io::ErrorKind::InvalidFilename.into() });
    }
    let arguments = ["get".to_owned()];
    let exec = Exec {
        program: Path::new(&program),
        arguments: &arguments,
        environment: &[],
        input: server.as_bytes(),
        longest: LONGEST_TIME,
    };
    read(&program, exec.run().await)
}

/// What a helper's answer means.
fn read(program: &str, answered: Result<Vec<u8>, ExecError>) -> Result<Option<Credential>, ExecError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Answer {
        #[serde(deserialize_with = "null_is_nothing")]
        username: String,
        #[serde(deserialize_with = "null_is_nothing")]
        secret: String,
    }
    let output = match answered {
        Ok(output) => output,
        // The protocol has no other way to say so. Docker looks at the standard output alone; what is elsewhere may be a warning.
        Err(ExecError::Failed { output, .. }) if output.contains("credentials not found") => return Ok(None),
        Err(error) => return Err(error),
    };
    let answer: Answer = serde_json::from_slice(&output).map_err(|error| ExecError::Answer {
        program: program.to_owned(),
        problem: format!("{:?} at {}", error.classify(), error.column()),
    })?;
    Ok(match (answer.username.as_str(), answer.secret.is_empty()) {
        (_, true) => None,
        (IDENTITY_TOKEN, false) => Some(Credential::Identity(answer.secret)),
        (_, false) => Some(Credential::Basic { username: answer.username, password: answer.secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DockerConfig {
        DockerConfig::parse(
            br#"{"auths": {"r.test": {"auth": "dTpw"}, "helped.test": {}}, "credsStore": "pass", "HttpHeaders": {"a": "b"},
                "credHelpers": {"helped.test": "own", "index.docker.io": "hub", "r.test:5000": "port"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn each_registry_has_its_own_helper_or_the_store() {
        let config = config();
        for (image, helper, server) in [
            ("helped.test/a", "own", "helped.test"),
            ("r.test:5000/a", "port", "r.test:5000"),
            ("r.test/a", "pass", "r.test"),
            ("nginx", "hub", DOCKER_HUB),
        ] {
            assert_eq!(config.helper(&Reference::parse(image).unwrap()), Some((helper, server)), "{image}");
        }
        assert_eq!(DockerConfig::parse(b"{}").unwrap().helper(&Reference::parse("nginx").unwrap()), None);
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_named_and_the_file_holds_what_it_holds() {
        let image = Reference::parse("r.test/a").unwrap();
        let held = Credential::Basic { username: "u".into(), password: "p".into() };
        assert_eq!(config().held(&image), [held]);
        let error = config().helped(&image).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot run docker-credential-pass: "), "{error}");
        assert!(ask("../../bin/sh", "r.test").await.is_err());
    }

    #[test]
    fn a_helpers_answer_is_read_as_docker_reads_it() {
        let failed = |output: &str, complaint: &str| {
            let (output, complaint) = (output.to_owned(), complaint.to_owned());
            Err(ExecError::Failed { program: "p".into(), status: "1".into(), complaint, output })
        };
        let basic = Credential::Basic { username: "u".into(), password: "s".into() };
        let none = "credentials not found in native keychain";
        for (answered, expected) in [
            (Ok(&br#"{"Username":"u","Secret":"s"}"#[..]), Some(Some(basic))),
            (Ok(br#"{"Username":"<token>","Secret":"s"}"#), Some(Some(Credential::Identity("s".into())))),
            (Ok(br#"{"Username":null,"Secret":null}"#), Some(None)),
            (Ok(b"nonsense"), None),
            (failed(none, none), Some(None)),
            (failed(none, "WARNING: the key ring is old"), Some(None)),
            (failed("", "the keychain is locked"), None),
        ] {
            let what = format!("{answered:?}");
            assert_eq!(read("p", answered.map(<[u8]>::to_vec)).ok(), expected, "{what}");
        }
    }

    #[test]
    fn what_is_null_is_not_there() {
        let text = br#"{"auths": null, "credHelpers": {"r.test": null, "h.test": "own"}, "credsStore": null}"#;
        let config = DockerConfig::parse(text).unwrap();
        let helper =
            |image: &str| config.helper(&Reference::parse(image).unwrap()).map(|(helper, _)| helper.to_owned());
        assert_eq!((helper("r.test/a"), helper("h.test/a")), (None, Some("own".to_owned())));
        for text in ["null", r#"{"auths": null, "credHelpers": null}"#] {
            assert_eq!(DockerConfig::parse(text.as_bytes()).unwrap(), DockerConfig::default(), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_empty_and_a_broken_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        assert_eq!(DockerConfig::read(&path).unwrap(), DockerConfig::default());
        std::fs::write(&path, "{\"auths\": 7}").unwrap();
        assert!(DockerConfig::read(&path).unwrap_err().to_string().contains("config.json: not a docker configuration"));
    }
}
