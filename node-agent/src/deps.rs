//! What the binary gives the agent, because the agent never compiles or runs a guest itself.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use samara_images::Admit;
use tokio_util::sync::CancellationToken;

use crate::images::ImageUsers;

/// Compiles a module into the code cache from which the shims load it.
#[async_trait]
pub trait Compile: Send + Sync + 'static {
    /// Returns once the code of the module named by `digest` (`sha256:...`) is in the cache.
    async fn ensure(&self, wasm: File, digest: &str) -> Result<(), CompileError>;

    /// Removes a module's code from the cache. What runs goes on. Blocks.
    fn forget(&self, digest: &str) -> Result<(), CompileError>;
}

/// The module cannot become code; the text is fit for a pod's status message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CompileError {
    /// What is wrong with the module, in words its author can act on.
    pub reason: String,
}

/// The agent's dependencies on the binary that holds it.
#[derive(Clone)]
pub struct Deps {
    /// Module to machine code.
    pub compile: Arc<dyn Compile>,
    /// What components may import: asked before their download.
    pub admit: Arc<dyn Admit>,
    /// Who else on this machine uses images of this node's store.
    pub image_users: Arc<dyn ImageUsers>,
    /// The executable started as `containerd-shim-samara-v1 front`.
    pub shim_exe: PathBuf,
    /// Cancelled when the agent is to stop. Pods are left running.
    pub shutdown: CancellationToken,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").field("shim_exe", &self.shim_exe).finish_non_exhaustive()
    }
}
