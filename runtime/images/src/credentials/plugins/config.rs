//! `CredentialProviderConfig`, with the kubelet's checks (`credentialprovider/plugin/config.go`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::super::pattern::Pattern;
use super::protocol::API_VERSIONS;
use crate::go_duration;

const LONGEST: u64 = 1 << 20;

/// A `CredentialProviderConfig` that cannot be used.
#[derive(Debug, Error)]
pub enum PluginConfigError {
    /// The file.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not YAML or JSON of this form.
    #[error("{path}: {problem}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// One provider in it.
    #[error("{path}: provider {name:?}: {problem}")]
    Provider {
        /// Which file.
        path: PathBuf,
        /// Which provider.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// One plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) images: Vec<Pattern>,
    pub(super) default_life: Duration,
    pub(super) api_version: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) token: Option<Token>,
}

/// What it wants of a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) audience: String,
    pub(super) required: bool,
    pub(super) cache_by: CacheBy,
    pub(super) required_annotations: Vec<String>,
    pub(super) optional_annotations: Vec<String>,
}

/// Who may get what another was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum CacheBy {
    ServiceAccount,
    Token,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<WireProvider>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireProvider {
    #[serde(default)]
    name: String,
    #[serde(default)]
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<WireVariable>,
    token_attributes: Option<WireToken>,
}

#[derive(Deserialize)]
struct WireVariable {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireToken {
    #[serde(default)]
    service_account_token_audience: String,
    cache_type: CacheBy,
    require_service_account: bool,
    #[serde(default)]
    required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    optional_service_account_annotation_keys: Vec<String>,
}

/// Reads the file, or all `.json`, `.yaml` and `.yml` files of a directory in the order of their names.
pub(super) fn read(path: &Path, directory: &Path) -> Result<Vec<Provider>, PluginConfigError> {
    let unreadable = |source| PluginConfigError::Read { path: path.to_owned(), source };
    if !path.metadata().map_err(unreadable)?.is_dir() {
        return read_file(path, directory);
    }
    let is_config = |path: &PathBuf| {
        matches!(path.extension().and_then(|ending| ending.to_str()), Some("json" | "yaml" | "yml")) && path.is_file()
    };
    let entries = path.read_dir().map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_config).collect();
    files.sort();
    if files.is_empty() {
        let problem = "no .json, .yaml or .yml file is in it".to_owned();
        return Err(PluginConfigError::Format { path: path.to_owned(), problem });
    }
    let mut providers: Vec<Provider> = Vec::new();
    for file in files {
        for provider in read_file(&file, directory)? {
            if providers.iter().any(|other| other.name == provider.name) {
                let problem = "is listed in another file too".to_owned();
                return Err(PluginConfigError::Provider { path: file, name: provider.name, problem });
            }
            providers.push(provider);
        }
    }
    Ok(providers)
}

fn read_file(path: &Path, directory: &Path) -> Result<Vec<Provider>, PluginConfigError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    read.map_err(|source| PluginConfigError::Read { path: path.to_owned(), source })?;
    let providers = parse(&text).map_err(|wrong| match wrong {
        Wrong::Format(problem) => PluginConfigError::Format { path: path.to_owned(), problem },
        Wrong::Provider { name, problem } => PluginConfigError::Provider { path: path.to_owned(), name, problem },
    })?;
    for provider in &providers {
        let program = directory.join(&provider.name);
        let runs = program.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
        if !runs {
            let problem = format!("{} is no program", program.display());
            return Err(PluginConfigError::Provider { path: path.to_owned(), name: provider.name.clone(), problem });
        }
    }
    Ok(providers)
}

#[derive(Debug)]
pub(super) enum Wrong {
    Format(String),
    Provider { name: String, problem: String },
}

pub(super) fn parse(text: &str) -> Result<Vec<Provider>, Wrong> {
    let wire: Wire = serde_yaml_ng::from_str(text).map_err(|error| Wrong::Format(error.to_string()))?;
    let known = ["v1", "v1beta1", "v1alpha1"].map(|version| format!("kubelet.config.k8s.io/{version}"));
    if wire.kind != "CredentialProviderConfig" || !known.contains(&wire.api_version) {
        let found = format!("{} {}", wire.api_version, wire.kind);
        return Err(Wrong::Format(format!(
            "expected kubelet.config.k8s.io/v1 CredentialProviderConfig, found {found}"
        )));
    }
    if wire.providers.is_empty() {
        return Err(Wrong::Format("at least one provider is needed".to_owned()));
    }
    let mut names = BTreeSet::new();
    let mut providers = Vec::new();
    for wire in wire.providers {
        let name = wire.name.clone();
        let provider = provider(wire).map_err(|problem| Wrong::Provider { name: name.clone(), problem })?;
        if !names.insert(name.clone()) {
            return Err(Wrong::Provider { name, problem: "is listed twice".to_owned() });
        }
        providers.push(provider);
    }
    Ok(providers)
}

fn provider(wire: WireProvider) -> Result<Provider, String> {
    let name = wire.name;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', ' ', '\0']) {
        return Err("the name must be that of a file".to_owned());
    }
    if wire.match_images.is_empty() {
        return Err("matchImages must not be empty".to_owned());
    }
    let life = wire.default_cache_duration.ok_or("defaultCacheDuration is needed")?;
    let default_life =
        go_duration::parse(&life).ok_or_else(|| format!("defaultCacheDuration {life:?} is no duration"))?;
    if !API_VERSIONS.contains(&wire.api_version.as_str()) {
        return Err(format!("apiVersion must be one of {}", API_VERSIONS.join(", ")));
    }
    let token = wire.token_attributes.map(|token| token_of(token, &wire.api_version)).transpose()?;
    Ok(Provider {
        name,
        images: wire.match_images.iter().map(|pattern| Pattern::parse(pattern)).collect(),
        default_life,
        api_version: wire.api_version,
        arguments: wire.args,
        environment: wire.env.into_iter().map(|variable| (variable.name, variable.value)).collect(),
        token,
    })
}

fn token_of(wire: WireToken, api_version: &str) -> Result<Token, String> {
    if api_version != API_VERSIONS[0] {
        return Err(format!("tokenAttributes needs the apiVersion {}", API_VERSIONS[0]));
    }
    if wire.service_account_token_audience.is_empty() {
        return Err("serviceAccountTokenAudience is needed".to_owned());
    }
    if !wire.require_service_account && !wire.required_service_account_annotation_keys.is_empty() {
        return Err("requiredServiceAccountAnnotationKeys needs requireServiceAccount".to_owned());
    }
    let both = |key: &&String| wire.optional_service_account_annotation_keys.contains(key);
    if let Some(key) = wire.required_service_account_annotation_keys.iter().find(both) {
        return Err(format!("the annotation {key} is both required and optional"));
    }
    Ok(Token {
        audience: wire.service_account_token_audience,
        required: wire.require_service_account,
        cache_by: wire.cache_type,
        required_annotations: wire.required_service_account_annotation_keys,
        optional_annotations: wire.optional_service_account_annotation_keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(provider: &str) -> String {
        format!("apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- {provider}\n")
    }

    const GOOD: &str = "{name: p, matchImages: ['*.dkr.ecr.*.amazonaws.com'], defaultCacheDuration: 12h0m0s, \
                        apiVersion: credentialprovider.kubelet.k8s.io/v1";

    #[test]
    fn a_whole_configuration_is_read() {
        let text = with(&format!(
            "{GOOD}, args: [get-credentials], env: [{{name: A, value: b}}], tokenAttributes: {{serviceAccountTokenAudience: aud, \
             cacheType: Token, requireServiceAccount: true, requiredServiceAccountAnnotationKeys: [a/b]}}}}"
        ));
        let providers = parse(&text).unwrap();
        let expected = Provider {
            name: "p".into(),
            images: vec![Pattern::parse("*.dkr.ecr.*.amazonaws.com")],
            default_life: Duration::from_secs(12 * 3600),
            api_version: "credentialprovider.kubelet.k8s.io/v1".into(),
            arguments: vec!["get-credentials".into()],
            environment: vec![("A".into(), "b".into())],
            token: Some(Token {
                audience: "aud".into(),
                required: true,
                cache_by: CacheBy::Token,
                required_annotations: vec!["a/b".into()],
                optional_annotations: vec![],
            }),
        };
        assert_eq!(providers, [expected]);
    }

    #[test]
    fn what_the_kubelet_refuses_is_refused() {
        let twice = with(&format!("{GOOD}}}\n- {GOOD}}}"));
        let cases = [
            ("", "Format"),
            ("apiVersion: v1\nkind: Pod\n", "expected kubelet.config"),
            (&with("{name: ../p}"), "name of a file"),
            (&with("{name: p}"), "matchImages"),
            (&with("{name: p, matchImages: [a]}"), "defaultCacheDuration"),
            (&with("{name: p, matchImages: [a], defaultCacheDuration: soon}"), "no duration"),
            (&with("{name: p, matchImages: [a], defaultCacheDuration: 1h, apiVersion: v9}"), "apiVersion must be"),
            (&with("{name: p, matchImage: [a]}"), "unknown field"),
            (&twice, "listed twice"),
            (
                &with(&format!("{GOOD}, tokenAttributes: {{cacheType: Token, requireServiceAccount: true}}}}")),
                "Audience",
            ),
            (&with(&format!("{GOOD}, tokenAttributes: {{cacheType: Never, requireServiceAccount: true}}}}")), "Never"),
        ];
        for (text, named) in cases {
            let wrong = format!("{:?}", parse(text).unwrap_err());
            let named = named.replace("name of a file", "that of a file");
            assert!(wrong.contains(&named), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_directorys_files_are_read_by_name_and_a_plugin_is_listed_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let names = || {
            Ok::<_, String>(
                read(directory.path(), Path::new("/bin"))
                    .map_err(|error| error.to_string())?
                    .into_iter()
                    .map(|it| it.name)
                    .collect::<Vec<_>>(),
            )
        };
        assert!(names().unwrap_err().contains("no .json"));
        let of = |name: &str| with(&format!("{GOOD}}}")).replace("name: p", &format!("name: {name}"));
        file("b.yaml", &of("sh"));
        file("a.yml", &of("cat"));
        file("c.txt", "not read");
        assert_eq!(names().unwrap(), ["cat", "sh"]);
        file("c.json", &of("sh"));
        assert!(names().unwrap_err().contains("another file"));
    }

    #[test]
    fn a_plugin_that_is_no_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yaml");
        std::fs::write(&config, with(&format!("{GOOD}}}"))).unwrap();
        let error = read(&config, directory.path()).unwrap_err().to_string();
        assert!(error.contains("provider \"p\"") && error.ends_with("/p is no program"), "{error}");
    }
}
