//! Probes: when to try, and what results mean (kubelet: `prober/worker.go`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

/// What one try gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    Success,
    /// Status code too high, refused, not 0, timed out.
    Failure {
        output: String,
    },
    /// Succeeded with a remark (redirect to another host): an event `ProbeWarning`.
    Warning {
        output: String,
    },
    /// Could not be tried: counts for nothing.
    Unknown {
        error: String,
    },
}

/// A probe of one attempt that runs. One per probe; the agent owns the loop.
#[derive(Debug, Clone)]
pub struct Prober {
    kind: ProbeKind,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    started_at: Timestamp,
    run: Option<(Outcome, u32)>,
    outcome: Outcome,
}

/// Where a probe stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No threshold reached yet: readiness counts as failed, liveness as passed, startup as not yet.
    Unknown,
    Success,
    Failure,
}

/// An event to record for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeEvent {
    /// `Unhealthy` or `ProbeWarning`.
    pub reason: &'static str,
    pub message: String,
}

impl Prober {
    /// For an attempt that started at `started_at`.
    pub fn new(kind: ProbeKind, probe: &Probe, started_at: Timestamp) -> Self {
        let _ = (kind, probe, started_at);
        todo!("session 1")
    }

    /// Which of the three it is.
    pub fn kind(&self) -> ProbeKind {
        self.kind
    }

    /// Time limit of one try.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When the next try is due. The first: `initialDelaySeconds` after the start (or at once when `listening`: the
    /// guest's socket began to listen, and no delay is set). After a try at `last`: a period later.
    pub fn next(&self, last: Option<Timestamp>) -> Timestamp {
        let _ = last;
        todo!("session 1")
    }

    /// Takes a result; returns the event to record, if any. Then read [`Prober::outcome`].
    pub fn observe(&mut self, result: &ProbeResult) -> Option<ProbeEvent> {
        let _ = result;
        todo!("session 1")
    }

    /// Where it stands.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

/// The probes of a container, startup first.
pub fn probes(container: &Container) -> Vec<(ProbeKind, &Probe)> {
    [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some((kind, probe.as_ref()?)))
    .collect()
}

/// What a try or an HTTP hook does, with ports and hosts resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    Exec { command: Vec<String> },
    Http { scheme: Scheme, host: String, port: u16, path: String, headers: Vec<(String, String)> },
    Tcp { host: String, port: u16 },
    Grpc { host: String, port: u16, service: String },
    Sleep { duration: Duration },
}

/// Of an HTTP probe or hook. Certificates are not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    PostStart,
    PreStop,
}

/// The probe's handler; an error text when it has none or names an unknown port.
pub fn probe_handler(pod: &Pod, container: &Container, probe: &Probe, pod_ip: &str) -> Result<Handler, String> {
    let _ = (pod, container, probe, pod_ip);
    todo!("session 1")
}

/// The hook's handler; `Ok(None)` without a hook.
pub fn hook_handler(container: &Container, hook: Hook, pod_ip: &str) -> Result<Option<Handler>, String> {
    let _ = (container, hook, pod_ip);
    todo!("session 1")
}
