//! Manifests and indexes, OCI's and docker's. Our own few structs instead of `oci-spec`'s: theirs keep annotations in hash maps, so a
//! manifest that is written would have other bytes, and another digest, each time; and they refuse what registries in the field hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::digest::Digest;
use crate::media_type;

/// Points at content: what it is, how long, and its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// What an index's entry is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// One image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
}

/// Either of the two, as the bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

/// Only what tells the two apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads it. A text that could be taken for both is refused, since another reader might take it for the other.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let unreadable = |error: serde_json::Error| Refusal::Manifest(error.to_string());
        let outline: Outline = serde_json::from_slice(bytes).map_err(unreadable)?;
        if outline.schema_version != 2 {
            return Err(Refusal::SchemaVersion(outline.schema_version));
        }
        let is_manifest = outline.layers.is_some() || outline.config.is_some();
        let named_index = outline.media_type.as_deref().map(media_type::is_index);
        match (outline.manifests.is_some(), is_manifest) {
            (true, false) if named_index != Some(false) => {
                serde_json::from_slice(bytes).map(Self::Index).map_err(unreadable)
            }
            (false, true) if named_index != Some(true) => {
                serde_json::from_slice(bytes).map(|it| Self::Manifest(Box::new(it))).map_err(unreadable)
            }
            _ => Err(Refusal::Manifest("it is neither a manifest nor an index".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": DIGEST, "size": 0})
    }

    #[test]
    fn a_docker_manifest_reads_like_an_oci_one() {
        let text = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": descriptor(media_type::DOCKER_CONFIG),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")],
        });
        let Ok(Document::Manifest(manifest)) = Document::parse(text.to_string().as_bytes()) else {
            panic!("not a manifest");
        };
        assert_eq!(manifest.layers.len(), 1);
        assert_eq!(manifest.config.media_type, media_type::DOCKER_CONFIG);
    }

    #[test]
    fn what_is_neither_or_both_is_refused() {
        let both = serde_json::json!({
            "schemaVersion": 2, "manifests": [], "layers": [], "config": descriptor("x"),
        });
        let lies = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "layers": [], "config": descriptor("x"),
        });
        for text in [both, lies, serde_json::json!({"schemaVersion": 2}), serde_json::json!({"schemaVersion": 1})] {
            assert!(Document::parse(text.to_string().as_bytes()).is_err(), "{text}");
        }
        for text in ["", "null", "[]", "{", "\u{0}", "<html>"] {
            assert!(Document::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_that_would_leave_the_store_is_refused() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"sha256:{}","size":1}},"layers":[]}}"#,
            "../".repeat(21) + "x",
        );
        assert!(Document::parse(text.as_bytes()).is_err());
    }
}
