//! Credentials for registries: docker's `config.json`, and the helper programs that it names.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use samara_images::{Credential, DockerConfig, Reference};
use serde::{Deserialize, Serialize};

/// The part of `config.json` that names helpers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Helpers {
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

/// What a helper is told, and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Secret {
    #[serde(rename = "ServerURL", default)]
    pub(super) server_url: String,
    pub(super) username: String,
    pub(super) secret: String,
}

/// Under this name Docker Hub stands in such files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
pub(super) fn config_path() -> Option<PathBuf> {
    let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    dir.filter(|dir| !dir.as_os_str().is_empty()).or_else(home).map(|dir| dir.join("config.json"))
}

/// The file's bytes; an empty object if there is none.
pub(super) fn read_config() -> Result<Vec<u8>> {
    let Some(path) = config_path() else { return Ok(b"{}".to_vec()) };
    match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(b"{}".to_vec()),
        bytes => bytes.with_context(|| format!("read {}", path.display())),
    }
}

/// What fits the image, to be tried in turn; empty: ask without. A helper that fails is told: without it the pull is another's.
pub(crate) async fn lookup(reference: &Reference) -> Result<Vec<Credential>> {
    let Some(path) = config_path() else { return Ok(Vec::new()) };
    let config = DockerConfig::read(&path)?;
    let helped = config.helped(reference).await;
    let helped = helped.with_context(|| format!("ask the credential helper which {} names", path.display()))?;
    Ok(helped.into_iter().chain(config.held(reference)).collect())
}

/// A registry's key in such files.
pub(super) fn server(registry: &str) -> String {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.into(),
        other => other.into(),
    }
}

/// Which helper keeps this server's credentials.
fn helper<'a>(helpers: &'a Helpers, server: &str) -> Option<&'a str> {
    let own = helpers.cred_helpers.get(server).map(String::as_str);
    own.or(Some(helpers.creds_store.as_str())).filter(|name| !name.is_empty())
}

/// The one that keeps what is written for this server, if any.
pub(super) fn helper_for(config: &[u8], server: &str) -> Result<Option<String>> {
    let helpers: Helpers = serde_json::from_slice(config).context("read config.json")?;
    Ok(helper(&helpers, server).map(str::to_owned))
}

/// The protocol of docker's credential helpers: the verb as an argument, the rest by pipe.
pub(super) fn call(helper: &str, verb: &str, input: &[u8]) -> Result<Vec<u8>> {
    let program = format!("docker-credential-{helper}");
    if helper.contains('/') {
        bail!("{helper:?} is not the name of a credential helper");
    }
    let mut command = Command::new(&program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| {
        format!("start {program}, which the docker configuration names: install it, or remove it there")
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read answers all the same.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().with_context(|| format!("hear from {program}"))?;
    if !output.status.success() {
        // Helpers say what is wrong on standard output.
        let said = [output.stdout, output.stderr].concat();
        bail!("{program} {verb}: {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_has_an_old_name() {
        assert_eq!(server("docker.io"), DOCKER_HUB);
        assert_eq!(server("localhost:5000"), "localhost:5000");
    }

    #[test]
    fn a_servers_own_helper_counts_more_than_the_store() {
        let config = br#"{"credsStore":"all","credHelpers":{"a.example":"own","b.example":""}}"#;
        for (server, expected) in [("a.example", Some("own")), ("c.example", Some("all")), ("b.example", None)] {
            assert_eq!(helper_for(config, server).unwrap().as_deref(), expected, "{server}");
        }
        assert_eq!(helper_for(b"{}", "a.example").unwrap(), None);
    }

    #[test]
    fn a_helper_that_is_not_installed_is_named() {
        let error = call("no-such-helper", "get", b"x").unwrap_err().to_string();
        assert!(error.contains("docker-credential-no-such-helper"), "{error}");
        assert!(call("../evil", "get", b"x").is_err());
    }
}
