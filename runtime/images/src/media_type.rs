//! The one table of media types: what each kind of image calls its manifests, configurations and layers.

/// Manifests and indexes, in the order in which they are asked for.
pub(crate) const MANIFESTS: &[&str] = &[OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST];

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// CNCF TAG Runtime, Wasm OCI artifact.
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// CNCF TAG Runtime, Wasm OCI artifact.
pub(crate) const WASM_LAYER: &str = "application/wasm";

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerKind {
    /// A tar archive with a part of the root file system. How it is packed is found from its bytes, as docker does.
    Tar,
    /// One module or component.
    Wasm,
    /// Anything else.
    Other,
}

impl LayerKind {
    pub(crate) fn of(media_type: &str) -> Self {
        match media_type {
            OCI_LAYER
            | OCI_LAYER_GZIP
            | OCI_LAYER_ZSTD
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Self::Tar,
            WASM_LAYER
            // wasm-to-oci, Krustlet, Spin
            | "application/vnd.wasm.content.layer.v1+wasm"
            // wasmCloud
            | "application/vnd.module.wasm.content.layer.v1+wasm"
            // runwasi
            | "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
            | "application/vnd.bytecodealliance.wasm.module.layer.v0+wasm" => Self::Wasm,
            _ => Self::Other,
        }
    }
}

/// Whether the bytes under this type list further manifests.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_MANIFEST_LIST)
}

/// Whether a configuration of this type has the form of an OCI image configuration.
pub(crate) fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}
