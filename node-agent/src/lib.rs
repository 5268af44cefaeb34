//! The agent: API server on one side, pods on the other.
//!
//! [`run`] is the table of contents: it wires the parts in the order in which a pod meets them.
//!
//! ```text
//!   API server --watch--> pods (decide) --> images, network, volumes --> shims --> containers
//!        ^                  |                                              |
//!        +--- status -------+                                              v
//!        +--- Node, lease -- node            server (10250): logs, exec, stats, metrics
//! ```

pub mod api;
pub mod config;
mod deps;
pub mod node;

pub use config::AgentConfig;
pub use deps::{Compile, CompileError, Deps};

use tokio_util::task::TaskTracker;

/// Why the agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API server's address or our identity could not be made out.
    #[error("joining the cluster")]
    Api(#[from] api::ApiError),
}

/// Runs the agent until `deps.shutdown` is cancelled. The pods go on: whoever runs next adopts them.
pub async fn run(config: AgentConfig, deps: Deps) -> Result<(), RunError> {
    let tasks = TaskTracker::new();

    // Who we are, and the one connection to the API server.
    let client = api::connect(&config.api)?;

    // Our Node object. Pods read from it: labels, allocatable, podCIDR. Registration goes on in the background,
    // so pods of an earlier agent are adopted even while the API server is away.
    let node = node::OwnNode::new(&config);

    // Pods: watch, decide, do, tell. (`pods::start` goes here; it gives the `Pods` handle.)

    // Registration, status and lease: from here the scheduler may send pods.
    tasks.spawn(node::keep(node.clone(), client.clone(), deps.shutdown.clone()));

    // What the API server asks of us: logs, exec, stats, metrics. (`server::start` goes here.)

    deps.shutdown.cancelled().await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}
