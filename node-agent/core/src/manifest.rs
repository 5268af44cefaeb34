//! What a manifest file holds: documents of YAML or JSON, each an object or a list of them.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod check;
mod merge;
mod scalars;

pub use check::check;

/// A longer file is not read (kubelet: `maxConfigLength`).
pub const MOST_BYTES: u64 = 10 << 20;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    Pod(Box<Pod>),
    Deployment(Box<Deployment>),
    DaemonSet(Box<DaemonSet>),
    Job(Box<Job>),
    ConfigMap(Box<ConfigMap>),
    Secret(Box<Secret>),
    /// Of a kind that a node has nothing to do with.
    Other {
        kind: String,
        name: String,
    },
}

/// A manifest that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("document {number}: {reason}")]
    Document { number: usize, reason: String },
    #[error("there is no object in it")]
    Empty,
}

/// Reads all documents. Fields that are not known are passed over, as the kubelet does; merge keys, octal numbers and `yes` mean
/// what they mean to it.
pub fn parse(text: &str) -> Result<Vec<Object>, ManifestError> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let wrong = |reason: String| ManifestError::Document { number: index + 1, reason };
        // By way of YAML's own value, which refuses a field that is there twice.
        let yaml = serde_yaml_ng::Value::deserialize(document).map_err(|error| wrong(error.to_string()))?;
        let yaml = merge::merged(yaml).map_err(wrong)?;
        let value = serde_json::to_value(yaml).map_err(|error| wrong(error.to_string()))?;
        if !value.is_null() {
            objects.extend(objects_of(value).map_err(wrong)?);
        }
    }
    if objects.is_empty() { Err(ManifestError::Empty) } else { Ok(objects) }
}

fn objects_of(mut value: Value) -> Result<Vec<Object>, String> {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (kind, version) = (text(&value, "kind"), text(&value, "apiVersion"));
    let Some(of) = kind.strip_suffix("List") else { return object(value).map(|object| vec![object]) };
    let Value::Array(items) = value["items"].take() else { return Err(format!("{kind}: items is not a list")) };
    let each = items.into_iter().map(|mut item| {
        // In a list of one kind, its items need not say it again.
        if let (false, Some(fields)) = (of.is_empty(), item.as_object_mut()) {
            fields.entry("kind").or_insert_with(|| of.into());
            fields.entry("apiVersion").or_insert_with(|| version.as_str().into());
        }
        object(item)
    });
    each.collect()
}

fn object(value: Value) -> Result<Object, String> {
    if !value.is_object() {
        return Err("expected an object, such as a Pod".to_owned());
    }
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if kind.is_empty() {
        return Err("the field kind is missing: is it a Kubernetes object?".to_owned());
    }
    if name.is_empty() {
        return Err(format!("invalid {}: metadata.name is missing", kind.to_lowercase()));
    }
    match kind.as_str() {
        "Pod" => typed(value, &name).map(Object::Pod),
        "Deployment" => typed(value, &name).map(Object::Deployment),
        "DaemonSet" => typed(value, &name).map(Object::DaemonSet),
        "Job" => typed(value, &name).map(Object::Job),
        "ConfigMap" => typed(value, &name).map(Object::ConfigMap),
        "Secret" => typed(value, &name).map(|secret| Object::Secret(with_string_data(secret))),
        _ => Ok(Object::Other { kind, name }),
    }
}

fn typed<T: DeserializeOwned>(value: Value, name: &str) -> Result<Box<T>, String> {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    T::deserialize(scalars::Scalars(value)).map(Box::new).map_err(|error| format!("{kind} {name:?}: {error}"))
}

/// What is written as text is kept as bytes, over what is there: an API server does that.
fn with_string_data(mut secret: Box<Secret>) -> Box<Secret> {
    let texts = secret.string_data.take().into_iter().flatten();
    let bytes = texts.map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes())));
    secret.data.get_or_insert_default().extend(bytes);
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: b}]}\n";

    fn kinds(text: &str) -> Vec<&'static str> {
        let kind = |object: &Object| match object {
            Object::Pod(_) => "Pod",
            Object::Deployment(_) => "Deployment",
            Object::DaemonSet(_) => "DaemonSet",
            Object::Job(_) => "Job",
            Object::ConfigMap(_) => "ConfigMap",
            Object::Secret(_) => "Secret",
            Object::Other { .. } => "Other",
        };
        parse(text).unwrap().iter().map(kind).collect()
    }

    #[test]
    fn documents_lists_and_json_are_read_in_their_order() {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
        assert_eq!(kinds(&format!("---\n{map}---\n{POD}---\n{service}---\n")), ["ConfigMap", "Pod", "Other"]);
        let pods =
            r#"{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#;
        assert_eq!(kinds(pods), ["Pod", "Pod"]);
        let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", map.trim().replace('\n', "\n  "));
        assert_eq!(kinds(&list), ["ConfigMap"]);
    }

    #[test]
    fn merge_keys_octal_modes_and_spelt_out_booleans_mean_what_they_mean_to_kubernetes() {
        let text = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: no
  volumes: [{name: s, secret: {secretName: s, defaultMode: 0400, items: [{key: k, path: p, mode: 0o440}]}}]
  containers:
  - &base
    name: a
    image: b
    env: [{name: A, value: \"0400\"}, {name: B, value: \"yes\"}]
    resources: {limits: {memory: 1Mi}}
    securityContext: {readOnlyRootFilesystem: yes}
    ports: [{containerPort: 80}]
    livenessProbe: {httpGet: {port: \"080\"}}
  - {<<: *base, name: c, ports: []}
";
        let Ok([Object::Pod(pod)]) = parse(text).as_deref().map(|all| [all[0].clone()]) else { panic!("a Pod") };
        let base = serde_json::json!({
            "name": "a", "image": "b", "env": [{ "name": "A", "value": "0400" }, { "name": "B", "value": "yes" }],
            "resources": { "limits": { "memory": "1Mi" } }, "securityContext": { "readOnlyRootFilesystem": true },
            "ports": [{ "containerPort": 80 }], "livenessProbe": { "httpGet": { "port": "080" } },
        });
        let mut other = base.clone();
        (other["name"], other["ports"]) = ("c".into(), serde_json::json!([]));
        let secret = serde_json::json!({
            "secretName": "s", "defaultMode": 0o400, "items": [{ "key": "k", "path": "p", "mode": 0o440 }],
        });
        let spec = serde_json::json!({
            "hostNetwork": false, "volumes": [{ "name": "s", "secret": secret }], "containers": [base, other],
        });
        assert_eq!(serde_json::to_value(pod.spec).unwrap(), spec);
    }

    #[test]
    fn a_secrets_text_becomes_its_data() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: YQ==, b: YQ==}\nstringData: {b: B}\n";
        let Ok([Object::Secret(secret)]) = parse(text).as_deref().map(|all| [all[0].clone()]) else {
            panic!("a Secret")
        };
        let data: Vec<_> = secret.data.iter().flatten().map(|(key, bytes)| (key.as_str(), &bytes.0[..])).collect();
        assert_eq!(data, [("a", &b"a"[..]), ("b", b"B")]);
    }

    #[test]
    fn what_is_no_manifest_is_named_by_its_document() {
        for (text, says) in [
            ("", "there is no object in it"),
            ("---\n---\n", "there is no object in it"),
            ("a: [", "document 1: "),
            ("hello", "expected an object"),
            ("a: 1", "kind is missing"),
            ("kind: Pod\napiVersion: v1\n", "invalid pod: metadata.name is missing"),
            (&format!("{POD}---\n- 1\n"), "document 2: expected an object"),
            ("kind: Pod\napiVersion: v2\nmetadata: {name: web}\n", "Pod \"web\""),
            ("kind: Pod\napiVersion: v1\nmetadata: {name: web}\nspec: {containers: 3}\n", "Pod \"web\""),
            ("kind: Pod\nkind: Pod\n", "document 1: "),
            ("kind: PodList\nitems: {}\n", "items is not a list"),
            ("kind: Pod\nmetadata: {<<: web}\n", "document 1: << takes a mapping"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
