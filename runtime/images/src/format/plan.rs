//! From a manifest and its configuration to what has to be fetched and what it will be.

use super::config::ImageDocument;
use super::manifest::{Descriptor, Manifest};
use super::{Component, ImageConfig, Refusal, WasmConfig};
use crate::digest::Digest;
use crate::media_type::{self, LayerKind};

/// Overlay takes 500 lower directories; some are left for what is mounted between.
pub(crate) const MOST_LAYERS: usize = 480;

/// What to do with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) config: ImageConfig,
    pub(crate) content: PlannedContent,
    /// What a component imports and exports, if its artifact tells before the download.
    pub(crate) component: Option<Component>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlannedContent {
    /// Layers of a root file system, lowest first.
    Rootfs(Vec<PlannedLayer>),
    /// One wasm file.
    Module(Descriptor),
}

/// A layer and the digest of its tar once unpacked, under which it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedLayer {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
}

/// Decides, or says why not.
pub(crate) fn plan(manifest: &Manifest, config: &[u8]) -> Result<Plan, Refusal> {
    let layers = &manifest.layers;
    let count = |kind| layers.iter().filter(|layer| LayerKind::of(&layer.media_type) == kind).count();
    match (count(LayerKind::Wasm), count(LayerKind::Tar), count(LayerKind::Other)) {
        (0, 0, 0) => Err(Refusal::NoLayers),
        (_, _, 1..) => Err(unknown(layers)),
        (1, 0, 0) => module(manifest, config),
        (several, 0, 0) => Err(Refusal::SeveralWasmLayers(several)),
        (0, _, 0) => rootfs(manifest, config),
        (_, _, 0) => Err(Refusal::MixedLayers),
    }
}

fn unknown(layers: &[Descriptor]) -> Refusal {
    let other = layers.iter().find(|layer| LayerKind::of(&layer.media_type) == LayerKind::Other);
    Refusal::UnknownLayer { media_type: other.map(|layer| layer.media_type.clone()).unwrap_or_default() }
}

fn module(manifest: &Manifest, config: &[u8]) -> Result<Plan, Refusal> {
    let content = PlannedContent::Module(manifest.layers[0].clone());
    let config_type = manifest.config.media_type.as_str();
    if media_type::is_image_config(config_type) {
        let document = ImageDocument::parse(config)?;
        return Ok(Plan { config: document.config, content, component: None });
    }
    let component = match config_type {
        media_type::WASM_CONFIG => WasmConfig::parse(config)?.component,
        _ => None,
    };
    Ok(Plan { config: ImageConfig::default(), content, component })
}

fn rootfs(manifest: &Manifest, config: &[u8]) -> Result<Plan, Refusal> {
    if !media_type::is_image_config(&manifest.config.media_type) {
        let media_type = manifest.config.media_type.clone();
        return Err(Refusal::Config(format!(
            "layers of a root file system need an image configuration, and it is {media_type}"
        )));
    }
    let document = ImageDocument::parse(config)?;
    if !document.architecture.starts_with("wasm") && !document.os.starts_with("wasi") {
        let platform = format!("{}/{}", document.os, document.architecture);
        return Err(Refusal::Platform { platform });
    }
    let layers = &manifest.layers;
    if layers.len() != document.diff_ids.len() {
        return Err(Refusal::DiffIds { layers: layers.len(), diff_ids: document.diff_ids.len() });
    }
    if layers.len() > MOST_LAYERS {
        return Err(Refusal::TooManyLayers(layers.len()));
    }
    let layers = layers
        .iter()
        .cloned()
        .zip(document.diff_ids)
        .map(|(descriptor, diff_id)| PlannedLayer { descriptor, diff_id })
        .collect();
    Ok(Plan { config: document.config, content: PlannedContent::Rootfs(layers), component: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            artifact_type: None,
            digest: Digest::of(media_type.as_bytes()),
            size: 10,
            annotations: None,
            platform: None,
        }
    }

    fn manifest(config: &str, layers: &[&str]) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            config: descriptor(config),
            layers: layers.iter().copied().map(descriptor).collect(),
            annotations: None,
        }
    }

    fn image_config(platform: &str, layers: usize) -> Vec<u8> {
        let (os, architecture) = platform.split_once('/').unwrap();
        let diff_ids = vec![Digest::of(b"x"); layers];
        serde_json::to_vec(&serde_json::json!({
            "os": os, "architecture": architecture, "config": {"Entrypoint": ["/a"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))
        .unwrap()
    }

    #[test]
    fn every_artifact_form_becomes_one_module() {
        let forms = [
            (media_type::WASM_CONFIG, "application/wasm"),
            ("application/vnd.wasm.config.v1+json", "application/vnd.wasm.content.layer.v1+wasm"),
            ("application/vnd.fermyon.spin.application.v1+config", "application/vnd.wasm.content.layer.v1+wasm"),
            ("application/vnd.oci.empty.v1+json", "application/wasm"),
            ("application/vnd.bacalhau.unheard-of", "application/vnd.module.wasm.content.layer.v1+wasm"),
        ];
        for (config, layer) in forms {
            let planned = plan(&manifest(config, &[layer]), b"{}").unwrap();
            assert_eq!(planned.content, PlannedContent::Module(descriptor(layer)), "{config}");
            assert_eq!(planned.config, ImageConfig::default());
        }
    }

    #[test]
    fn a_component_layer_under_an_image_configuration_keeps_its_entrypoint() {
        let layer = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
        let planned = plan(&manifest(media_type::OCI_CONFIG, &[layer]), &image_config("wasip1/wasm", 1)).unwrap();
        assert_eq!(planned.config.entrypoint, ["/a"]);
        assert_eq!(planned.content, PlannedContent::Module(descriptor(layer)));
    }

    #[test]
    fn a_components_face_is_known_before_its_download() {
        let config = br#"{"architecture":"wasm","os":"wasip2","layerDigests":[],
            "component":{"exports":["wasi:cli/run@0.2.0"],"imports":["wasi:io/poll@0.2.0"],"target":null}}"#;
        let planned = plan(&manifest(media_type::WASM_CONFIG, &["application/wasm"]), config).unwrap();
        assert_eq!(planned.component.unwrap().imports, ["wasi:io/poll@0.2.0"]);
    }

    #[test]
    fn root_file_systems_are_taken_for_wasm_and_refused_for_processors() {
        let manifest = manifest(media_type::OCI_CONFIG, &[media_type::OCI_LAYER_GZIP, media_type::OCI_LAYER]);
        for platform in ["wasip1/wasm", "wasip2/wasm", "wasi/wasm32", "linux/wasm", "wasi/amd64"] {
            let planned = plan(&manifest, &image_config(platform, 2)).unwrap();
            assert!(matches!(planned.content, PlannedContent::Rootfs(layers) if layers.len() == 2), "{platform}");
        }
        for platform in ["linux/amd64", "linux/arm64", "windows/amd64", "/"] {
            let refused = plan(&manifest, &image_config(platform, 2));
            assert_eq!(refused, Err(Refusal::Platform { platform: platform.to_owned() }));
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused_by_name() {
        let tar = media_type::OCI_LAYER;
        let wasm = media_type::WASM_LAYER;
        let oci = media_type::OCI_CONFIG;
        let unknown = "application/vnd.acme.thing";
        let wasi = |layers| image_config("wasi/wasm", layers);
        let cases = [
            (manifest(oci, &[]), wasi(0), Refusal::NoLayers),
            (manifest(oci, &[wasm, wasm]), wasi(2), Refusal::SeveralWasmLayers(2)),
            (manifest(oci, &[wasm, tar]), wasi(2), Refusal::MixedLayers),
            (manifest(oci, &[tar, unknown]), wasi(2), Refusal::UnknownLayer { media_type: unknown.to_owned() }),
            (manifest(oci, &[tar]), wasi(2), Refusal::DiffIds { layers: 1, diff_ids: 2 }),
            (manifest(oci, &[tar; 481]), wasi(481), Refusal::TooManyLayers(481)),
        ];
        for (manifest, config, refusal) in cases {
            assert_eq!(plan(&manifest, &config), Err(refusal));
        }
        assert!(matches!(plan(&manifest(wasm, &[tar]), b"{}"), Err(Refusal::Config(_))));
    }
}
