//! What an image says about how to run it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::Refusal;
use crate::digest::Digest;

/// The run-time part of an OCI image configuration. An artifact that is only a module or component has all of it empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImageConfig {
    /// First part of the command line.
    pub entrypoint: Vec<String>,
    /// Second part, which a user's arguments replace.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Empty: `/`.
    pub working_dir: String,
    /// `user[:group]`, names or numbers. Empty: root.
    pub user: String,
    /// `SIGTERM` or a number. Empty: SIGTERM.
    pub stop_signal: String,
    /// Paths which want a volume.
    pub volumes: Vec<String>,
    /// `port/protocol`.
    pub exposed_ports: Vec<String>,
    /// Free text by key.
    pub labels: BTreeMap<String, String>,
}

/// An OCI image configuration, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageDocument {
    pub(crate) architecture: String,
    pub(crate) os: String,
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

impl ImageDocument {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default, deserialize_with = "null_is_empty")]
            architecture: String,
            #[serde(default, deserialize_with = "null_is_empty")]
            os: String,
            #[serde(default, deserialize_with = "null_is_empty")]
            config: WireConfig,
            #[serde(default, deserialize_with = "null_is_empty")]
            rootfs: WireRootfs,
        }
        #[derive(Default, Deserialize)]
        struct WireRootfs {
            #[serde(default, deserialize_with = "null_is_empty")]
            diff_ids: Vec<Digest>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct WireConfig {
            entrypoint: Option<Vec<String>>,
            cmd: Option<Vec<String>>,
            env: Option<Vec<String>>,
            working_dir: Option<String>,
            user: Option<String>,
            stop_signal: Option<String>,
            volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
            exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
            labels: Option<BTreeMap<String, String>>,
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| Refusal::Config(error.to_string()))?;
        let config = ImageConfig {
            entrypoint: wire.config.entrypoint.unwrap_or_default(),
            cmd: wire.config.cmd.unwrap_or_default(),
            env: wire.config.env.unwrap_or_default(),
            working_dir: wire.config.working_dir.unwrap_or_default(),
            user: wire.config.user.unwrap_or_default(),
            stop_signal: wire.config.stop_signal.unwrap_or_default(),
            volumes: wire.config.volumes.unwrap_or_default().into_keys().collect(),
            exposed_ports: wire.config.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: wire.config.labels.unwrap_or_default(),
        };
        Ok(Self { architecture: wire.architecture, os: wire.os, config, diff_ids: wire.rootfs.diff_ids })
    }
}

/// `application/vnd.wasm.config.v0+json` of the CNCF Wasm artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WasmConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) layer_digests: Vec<Digest>,
    /// Present if it is a component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) component: Option<Component>,
}

/// A component's face, as its artifact's configuration tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Component {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) exports: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) imports: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
}

impl WasmConfig {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(bytes).map_err(|error| Refusal::Config(error.to_string()))
    }
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_made_configuration_with_nulls_reads() {
        let text = r#"{
            "architecture": "wasm", "os": "wasip1", "created": "2026-01-01T00:00:00Z",
            "config": {"Entrypoint": ["/app.wasm"], "Cmd": null, "Env": ["A=b"], "WorkingDir": "/srv",
                       "User": "65532:65532", "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}},
                       "Labels": null, "OnBuild": null, "StopSignal": "SIGINT"},
            "rootfs": {"type": "layers", "diff_ids": null}, "history": [{"empty_layer": true}]
        }"#;
        let document = ImageDocument::parse(text.as_bytes()).unwrap();
        let expected = ImageConfig {
            entrypoint: vec!["/app.wasm".into()],
            env: vec!["A=b".into()],
            working_dir: "/srv".into(),
            user: "65532:65532".into(),
            stop_signal: "SIGINT".into(),
            volumes: vec!["/data".into()],
            exposed_ports: vec!["80/tcp".into()],
            ..ImageConfig::default()
        };
        assert_eq!(document.config, expected);
        assert_eq!((document.architecture.as_str(), document.os.as_str()), ("wasm", "wasip1"));
        assert_eq!(document.diff_ids, []);
    }

    #[test]
    fn an_empty_object_is_a_configuration_with_nothing_in_it() {
        assert_eq!(ImageDocument::parse(b"{}").unwrap().config, ImageConfig::default());
        assert_eq!(WasmConfig::parse(b"{}").unwrap(), WasmConfig::default());
        for text in ["", "7", "null", "{", r#"{"config": 7}"#, r#"{"rootfs": {"diff_ids": ["sha256:x"]}}"#] {
            assert!(ImageDocument::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
