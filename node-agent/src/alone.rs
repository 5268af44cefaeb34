//! A node of no cluster: the pods of a directory of manifests, and nobody to tell but files and the log.
//!
//! The same parts as in [`crate::run`], without those that speak to an API server. There is nobody to say who may ask what
//! of the node, so nothing is served but `/healthz` on loopback.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::{AgentConfig, Deps, RunError, node, pods, server, systemd, traced_starts};

pub(crate) async fn run(config: AgentConfig, deps: Deps) -> Result<(), RunError> {
    let tasks = TaskTracker::new();
    let machine = node::Machine::new(&config.root_dir);
    let node = node::OwnNode::new(config.node_name.clone(), config.node.clone(), machine, None).await?;
    node::alone(&node)?;
    let (pods, shims, _) = pods::start(&config, &deps, None, &node, traced_starts(&config)?, &tasks)?;
    tracing::info!(
        manifests = %config.manifests.as_ref().map_or("none".into(), |manifests| manifests.path.display().to_string()),
        "standing alone, without an API server"
    );
    let workloads: Arc<dyn server::Workloads> = Arc::new(pods.clone());
    tasks.spawn(server::start_health(&config.server, workloads.clone(), deps.shutdown.clone()).await?);
    tasks.spawn(systemd::keep(workloads, deps.shutdown.clone()));
    deps.shutdown.cancelled().await;
    tasks.close();
    tasks.wait().await;
    if pods.list().is_empty() {
        shims.retire_idle().await;
    }
    Ok(())
}
