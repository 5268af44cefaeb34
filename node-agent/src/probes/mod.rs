//! Probes and lifecycle hooks of running containers: tried here, judged by `samara_core::probe`.

mod exec;
mod hook;
mod http;
mod plan;
mod run;
mod tcp;
mod tls;
mod try_once;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

pub use exec::{Executed, execute};
pub use hook::hook;
pub use plan::{Begin, Plan};
pub use run::run;

use samara_core::pod::Failure;

use crate::pods::{Context, PodRef};
use crate::shims::Task;

/// What probes and hooks say of a running attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The hook is done and the startup probe passed.
    Started,
    Ready,
    NotReady,
    Failed(Failure),
}

/// The container that is probed.
#[derive(Debug)]
pub struct Subject {
    pub context: Arc<Context>,
    pub pod_ref: PodRef,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub pod_ip: Option<IpAddr>,
    pub task: Task,
    pub started_at: Timestamp,
}

impl Subject {
    fn pod_ip(&self) -> String {
        self.pod_ip.map(|ip| ip.to_string()).unwrap_or_default()
    }
}
