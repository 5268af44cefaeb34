//! What an image is, decided from its documents alone: manifest, index, configuration, and the first bytes of its wasm.

mod config;
mod index;
mod manifest;
mod plan;
mod refusal;
mod wasm;

pub use config::ImageConfig;
pub(crate) use config::{Component, WasmConfig};
pub(crate) use index::choose;
pub(crate) use manifest::{Descriptor, Document, Index, Manifest};
pub(crate) use plan::{Plan, PlannedContent, PlannedLayer, plan};
pub use refusal::Refusal;
pub use wasm::WasmKind;
