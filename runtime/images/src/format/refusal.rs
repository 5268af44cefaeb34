//! Why an image is not one that a Wasm node can run. None of these gets better by trying again.

use thiserror::Error;

/// The image was understood, or could not be, and is refused for what it is. Each text continues `image "x": `.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The manifest or index cannot be read.
    #[error("its manifest cannot be read: {0}")]
    Manifest(String),
    /// Docker's schema 1, or something unheard of.
    #[error("its manifest has schemaVersion {0}, and only 2 is supported")]
    SchemaVersion(u32),
    /// The configuration cannot be read.
    #[error("its configuration cannot be read: {0}")]
    Config(String),
    /// A container image for a processor.
    #[error("it is for {platform}, not WebAssembly")]
    Platform {
        /// `os/architecture` of its configuration.
        platform: String,
    },
    /// An index without an entry for us.
    #[error("none of its platforms is WebAssembly: it offers {offered}")]
    NoWasmPlatform {
        /// What there is, comma-separated.
        offered: String,
    },
    /// Indexes of indexes of indexes.
    #[error("its index is nested too deep")]
    NestedIndex,
    /// Nothing in it.
    #[error("it has no layers")]
    NoLayers,
    /// The CNCF specification: a consumer that sees more than one should reject.
    #[error("it has {0} WebAssembly layers, and the artifact format allows one")]
    SeveralWasmLayers(usize),
    /// Both a wasm layer and layers of a root file system.
    #[error("it mixes a WebAssembly layer with layers of a root file system")]
    MixedLayers,
    /// Something no WASI host gives a meaning to.
    #[error("it has a layer of the unsupported type {media_type}")]
    UnknownLayer {
        /// The layer's media type.
        media_type: String,
    },
    /// The configuration does not describe the layers.
    #[error("it has {layers} layers but its configuration names {diff_ids}")]
    DiffIds {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// More layers than the kernel can stack.
    #[error("it has {0} layers, and at most {max} can be stacked", max = super::plan::MOST_LAYERS)]
    TooManyLayers(usize),
    /// Larger than configured.
    #[error("its {what} is {size} bytes long, and the limit is {limit}")]
    TooLarge {
        /// Manifest, configuration, layer or module.
        what: String,
        /// As the manifest says.
        size: u64,
        /// As configured.
        limit: u64,
    },
    /// Native code that somebody made from a module. It is never loaded: it could do anything.
    #[error("it is precompiled native code ({0}), which is not loaded from a registry; push the .wasm itself")]
    Precompiled(&'static str),
    /// The bytes are something else.
    #[error("it is not WebAssembly: its content is {0}")]
    NotWasm(String),
    /// A component needs what this node does not have.
    #[error("{0}")]
    Imports(String),
}
