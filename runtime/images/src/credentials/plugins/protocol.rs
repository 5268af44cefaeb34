//! What is said to a plugin, and what it says (`CredentialProviderRequest`, `CredentialProviderResponse`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::super::Keyring;
use super::Shown;
use crate::go_duration;
use crate::registry::Credential;

/// Newest first; they differ in what the newest adds.
pub(super) const API_VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// What credentials may be kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum KeyType {
    Image,
    Registry,
    Global,
}

/// A plugin's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) keys: Keyring,
    pub(super) by: KeyType,
    /// `None`: as the configuration says.
    pub(super) life: Option<Duration>,
}

pub(super) fn request(api_version: &str, image: &str, shown: &Shown) -> String {
    let mut request = json!({"apiVersion": api_version, "kind": "CredentialProviderRequest", "image": image});
    if let Some(token) = &shown.token {
        request["serviceAccountToken"] = json!(token);
    }
    if !shown.annotations.is_empty() {
        request["serviceAccountAnnotations"] = json!(shown.annotations);
    }
    request.to_string()
}

/// The problem never has any of the answer in it.
pub(super) fn read(output: &[u8], api_version: &str) -> Result<Answer, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        #[serde(default)]
        api_version: String,
        #[serde(default)]
        kind: String,
        cache_key_type: Option<KeyType>,
        cache_duration: Option<String>,
        auth: Option<BTreeMap<String, Pair>>,
    }
    #[derive(Deserialize)]
    struct Pair {
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
    }
    let wire: Wire =
        serde_json::from_slice(output).map_err(|error| format!("no JSON of its form ({:?})", error.classify()))?;
    if wire.kind != "CredentialProviderResponse" {
        return Err("its kind is not CredentialProviderResponse".to_owned());
    }
    if wire.api_version != api_version {
        return Err(format!("its apiVersion is not {api_version}"));
    }
    let by = wire.cache_key_type.ok_or("its cacheKeyType is missing")?;
    let life = match wire.cache_duration {
        None => None,
        Some(text) => Some(go_duration::parse(&text).ok_or("its cacheDuration is no duration")?),
    };
    let mut keys = Keyring::default();
    for (registry, Pair { username, password }) in wire.auth.unwrap_or_default() {
        keys.insert(&registry, Credential::Basic { username, password });
    }
    Ok(Answer { keys, by, life })
}

/// Whether a text is an answer of the newest version; for tests and fuzzing.
pub fn check(output: &[u8]) -> Result<(), String> {
    read(output, API_VERSIONS[0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    const V1: &str = API_VERSIONS[0];

    fn answer(rest: &str) -> String {
        format!(r#"{{"apiVersion":"{V1}","kind":"CredentialProviderResponse"{rest}}}"#)
    }

    #[test]
    fn an_answer_is_read_with_its_registries() {
        let text = answer(
            r#","cacheKeyType":"Registry","cacheDuration":"6h30m0s","auth":{"*.ecr.test":{"username":"AWS","password":"p"}}"#,
        );
        let answer = read(text.as_bytes(), V1).unwrap();
        assert_eq!((answer.by, answer.life), (KeyType::Registry, Some(Duration::from_secs(23_400))));
        let image = Reference::parse("1.ecr.test/app").unwrap();
        assert_eq!(answer.keys.lookup(&image), [Credential::Basic { username: "AWS".into(), password: "p".into() }]);
        assert_eq!(answer.keys.lookup(&Reference::parse("1.2.ecr.test/app").unwrap()), []);
    }

    #[test]
    fn other_texts_are_refused_without_being_repeated() {
        let v1beta1 = answer(r#","cacheKeyType":"Image""#).replace("/v1\"", "/v1beta1\"");
        let cases = [
            (String::new(), "no JSON"),
            ("secret".to_owned(), "no JSON"),
            ("{}".to_owned(), "kind"),
            (v1beta1, "apiVersion"),
            (answer(""), "cacheKeyType"),
            (answer(r#","cacheKeyType":"Secret""#), "no JSON of its form"),
            (answer(r#","cacheKeyType":"Image","cacheDuration":"secret""#), "cacheDuration"),
            (answer(r#","cacheKeyType":"Image","auth":{"r":"secret"}"#), "no JSON of its form"),
        ];
        for (text, named) in cases {
            let problem = read(text.as_bytes(), V1).unwrap_err();
            assert!(problem.contains(named) && !problem.contains("secret"), "{text}: {problem}");
        }
    }

    #[test]
    fn a_plugin_is_told_of_the_account_only_where_there_is_one() {
        let plain = request(V1, "r.test/app", &Shown::default());
        let expected = json!({"apiVersion": V1, "kind": "CredentialProviderRequest", "image": "r.test/app"});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), expected);
        let shown = Shown {
            token: Some("t".into()),
            annotations: BTreeMap::from([("a".into(), "b".into())]),
            ..Shown::default()
        };
        let told: serde_json::Value = serde_json::from_str(&request(V1, "r.test/app", &shown)).unwrap();
        assert_eq!(
            (&told["serviceAccountToken"], &told["serviceAccountAnnotations"]),
            (&json!("t"), &json!({"a": "b"}))
        );
    }
}
