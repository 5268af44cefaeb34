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
//! Without an API server pods come from manifests on this node's disk alone: `alone`.

mod alone;
mod any_certificate;
pub mod api;
pub mod args;
pub mod certificates;
pub mod config;
mod deps;
pub mod events;
pub mod images;
pub mod metrics;
pub mod network;
pub mod node;
pub mod objects;
pub mod pace;
pub mod pods;
pub mod probes;
pub mod server;
pub mod shims;
pub mod starts;
pub mod status;
mod systemd;
pub mod volumes;
mod wakeup;

pub use config::AgentConfig;
pub use deps::{Compile, CompileError, Deps};

use std::sync::Arc;

use tokio_util::task::TaskTracker;

/// Why the agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API server's address or our identity could not be made out.
    #[error("joining the cluster")]
    Api(#[from] api::ApiError),
    /// No client certificate.
    #[error("becoming a node by bootstrap")]
    Bootstrap(#[from] certificates::BootstrapError),
    /// Pods cannot be looked after.
    #[error("looking after pods")]
    Pods(#[from] pods::PodsError),
    /// There is no serving certificate.
    #[error("making the node's serving certificate")]
    Certificates(#[from] certificates::CertificateError),
    /// The machine does not tell what the Node object must say.
    #[error("describing this node")]
    Node(#[from] node::NodeError),
    /// The file of `--trace-starts` cannot be opened.
    #[error("opening {}", path.display())]
    TraceStarts { path: std::path::PathBuf, source: std::io::Error },
    /// The node's own API cannot be served.
    #[error("serving the node's API")]
    Server(#[from] server::ServerError),
}

/// Runs the agent until `deps.shutdown` is cancelled. The pods go on: whoever runs next adopts them.
pub async fn run(config: AgentConfig, deps: Deps) -> Result<(), RunError> {
    match config.api.clone() {
        Some(ours) => Box::pin(join(config, ours, deps)).await,
        None => Box::pin(alone::run(config, deps)).await,
    }
}

/// A node of a cluster.
async fn join(config: AgentConfig, ours: api::ApiConfig, deps: Deps) -> Result<(), RunError> {
    let tasks = TaskTracker::new();

    // Who we are, and the way to the API server.
    let asked = certificates::ensure_client(&ours, &config.certificates, &config.node_name);
    match deps.shutdown.run_until_cancelled(asked).await {
        Some(bootstrapped) => bootstrapped.map(drop)?,
        None => return Ok(()),
    }
    let mut kubeconfig = api::load(&ours.kubeconfig, ours.context.as_deref()).await.map_err(api::ApiError::from)?;
    if config.certificates.rotate_client {
        certificates::use_newest(&mut kubeconfig.auth_info, &config.certificates.client_store(), &config.node_name);
    }
    let api = api::connect(&kubeconfig)?;
    tracing::info!(server = %api.server, kubeconfig = %ours.kubeconfig.display(), "speaking to the API server");

    // Our Node object. Pods read from it: labels, allocatable, podCIDR. Registration goes on in the background,
    // so pods of an earlier agent are adopted even while the API server is away.
    let machine = node::Machine::new(&config.root_dir);
    let node = node::OwnNode::new(config.node_name.clone(), config.node.clone(), machine, Some(&api.server)).await?;

    // Pods: watch, decide, do, tell.
    let (pods, _, events) = pods::start(&config, &deps, Some(&api.client), &node, traced_starts(&config)?, &tasks)?;

    // What the API server asks of us: logs, exec, stats, metrics. Our own certificate until a signed one is there.
    let serving = server::Serving::new(match &config.certificates.serving {
        certificates::ServingSource::Files { certificate, key } => certificates::read_serving(certificate, key)?,
        certificates::ServingSource::SelfSigned | certificates::ServingSource::Signed => {
            certificates::self_signed(node.name(), node.addresses())?
        }
    });
    let workloads: Arc<dyn server::Workloads> = Arc::new(pods);
    let layout =
        volumes::Layout::new(&config.root_dir, &config.run_dir, &config.pod_logs_dir, &config.container_logs_dir);
    let parts = server::Parts {
        node_name: config.node_name.clone(),
        pod_logs_dir: config.pod_logs_dir.clone(),
        run_dir: config.run_dir.clone(),
        workloads: workloads.clone(),
        client: api.client.clone(),
        serving: serving.clone(),
        meter: Arc::new(
            server::Meter::new(&config.pods.cgroup_root, node.machine().clone(), layout)
                .map_err(pods::PodsError::from)?,
        ),
        configz: config::configz(&config),
    };
    tasks.spawn(server::start(config.server.clone(), parts, deps.shutdown.clone()).await?);

    // Certificates, renewed while they are used.
    tasks.spawn(certificates::keep(&config, &ours, &api, &node, serving, deps.shutdown.clone()));

    // Registration, status and lease: from here the scheduler may send pods.
    tasks.spawn(node::keep(node.clone(), api.client.clone(), events, deps.shutdown.clone()));

    tasks.spawn(systemd::keep(workloads, deps.shutdown.clone()));
    deps.shutdown.cancelled().await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

fn traced_starts(config: &AgentConfig) -> Result<starts::Starts, RunError> {
    match &config.trace_starts {
        Some(path) => {
            starts::Starts::to_file(path).map_err(|source| RunError::TraceStarts { path: path.clone(), source })
        }
        None => Ok(starts::Starts::default()),
    }
}
