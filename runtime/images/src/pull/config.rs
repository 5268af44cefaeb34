//! What a puller is told once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::registry::RegistryConfig;
use crate::unpack::UnpackLimits;

/// What a node can give a component: asked before its download, when the artifact says what it imports.
pub trait Admit: fmt::Debug + Send + Sync {
    /// The reason if one of these (`wasi:http/types@0.2.0`) cannot be given, naming it and the nearest that can.
    fn imports(&self, imports: &[String]) -> Result<(), String>;
}

/// How images are pulled, and how large they may be.
#[derive(Debug, Clone)]
pub struct PullerConfig {
    /// How registries are reached.
    pub registries: RegistryConfig,
    /// Longest manifest or index. Default 4 MiB, as registries have it.
    pub largest_manifest: u64,
    /// Longest configuration. Default 8 MiB.
    pub largest_config: u64,
    /// Longest wasm file. Default 256 MiB, the most that is compiled too.
    pub largest_module: u64,
    /// Longest layer as the registry has it. Default 8 GiB.
    pub largest_layer: u64,
    /// Longest archive of a layout, once it is unpacked. Default 64 GiB.
    pub largest_archive: u64,
    /// What one layer may unpack to.
    pub unpack: UnpackLimits,
    /// Layers of one image that are fetched at the same time. Default 3.
    pub parallel_layers: usize,
    /// Keep layers as they came once they are unpacked, so that the image can be pushed and saved. Default yes.
    pub keep_layers: bool,
    /// How often a download that broke off is taken up again where it stopped. Default 5.
    pub resumes: u32,
    /// A download must bring this many bytes in each such time. Default 60 KiB in 60 s.
    pub slowest: (u64, Duration),
    /// What components may import. Default: not asked.
    pub admit: Option<Arc<dyn Admit>>,
}

impl Default for PullerConfig {
    fn default() -> Self {
        Self {
            registries: RegistryConfig::default(),
            largest_manifest: 4 << 20,
            largest_config: 8 << 20,
            largest_module: 256 << 20,
            largest_layer: 8 << 30,
            largest_archive: 64 << 30,
            unpack: UnpackLimits::default(),
            parallel_layers: 3,
            keep_layers: true,
            resumes: 5,
            slowest: (60 << 10, Duration::from_secs(60)),
            admit: None,
        }
    }
}
