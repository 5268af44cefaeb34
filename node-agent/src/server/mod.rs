//! The node's HTTPS API, on port 10250: what the API server (for `kubectl logs`, `exec`, `attach`), metrics-server and
//! Prometheus ask of a kubelet. And `/healthz` in plain HTTP on loopback.
//!
//! A request passes `listener` (TLS; a client's certificate is asked for, not required), [`access`] (who is it: 401;
//! may it: 403) and only then the route.

pub mod access;
mod config;
mod forward;
mod health;
mod listener;
pub mod logs;
mod metrics;
mod pods;
mod reply;
mod routes;
mod stats;
mod streaming;
pub mod workloads;

pub use config::{Authorization, ServerConfig};
pub use listener::{ListenError, Serving};
pub use stats::Meter;
pub use workloads::{Process, Workloads};

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// What the routes need.
#[derive(Clone)]
pub struct Parts {
    /// `spec.nodeName` of our pods.
    pub node_name: String,
    /// Where containers' logs are: `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// For fifos of exec sessions.
    pub run_dir: PathBuf,
    /// The pods.
    pub workloads: Arc<dyn Workloads>,
    /// Asked who a caller is and what it may do.
    pub client: kube::Client,
    /// The certificate we show, and its successors.
    pub serving: Serving,
    /// Measures node and pods.
    pub meter: Arc<Meter>,
    /// What `/configz` answers.
    pub configz: serde_json::Value,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or TLS cannot be set up.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The client CA cannot be used.
    #[error(transparent)]
    Access(#[from] access::AccessError),
}

/// Serves `/healthz` alone, until `shutdown`.
pub async fn start_health(
    config: &ServerConfig,
    workloads: Arc<dyn Workloads>,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, ServerError> {
    let health = listener::plain(config, health::router(workloads)).await?;
    Ok(async move {
        if let Some(health) = health {
            health.run(shutdown).await;
        }
    })
}

/// Binds both addresses and serves until `shutdown`. Returns as soon as requests are accepted, with a future that ends
/// when the last one is done.
pub async fn start(
    config: ServerConfig,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, ServerError> {
    streaming::clean_up(&parts.run_dir);
    let guard = access::Guard::new(&config, &parts)?;
    let router = routes::router(Arc::new(parts.clone()), guard);
    let health = listener::plain(&config, health::router(parts.workloads.clone())).await?;
    let api = listener::secure(&config, parts.serving.clone(), router).await?;
    Ok(async move {
        let health = async {
            if let Some(health) = health {
                health.run(shutdown.clone()).await;
            }
        };
        tokio::join!(health, api.run(shutdown.clone()));
    })
}
