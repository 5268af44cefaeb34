//! What is to be done with a pod now (kubelet: `kuberuntime_manager.go` `computePodActions`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{ContainerKind, ObservedPod};
use crate::backoff::Delay;

/// The next step. Carry out `kill` and `start` (the two never name the same attempt), then wait for a change or
/// `wake_at` and ask again. Asking twice without a change gives the same answer, except that an attempt whose
/// [`super::Stopping`] is recorded is not named again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodActions {
    /// Make the sandbox (network, volumes, cgroup) before anything starts.
    pub make_sandbox: bool,
    /// At once and side by side.
    pub kill: Vec<KillContainer>,
    /// In this order; side by side is allowed.
    pub start: Vec<StartContainer>,
    /// Ask again at this time at the latest.
    pub wake_at: Option<Timestamp>,
    /// Everything is over: no attempt runs and none will start. Take down the sandbox, then tell the last status.
    pub finished: bool,
}

/// Make and start one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartContainer {
    pub name: String,
    pub kind: ContainerKind,
    /// Number of the new attempt.
    pub attempt: u32,
    /// Record it in [`ObservedPod::delays`] when it started; `None` for a first start.
    pub delay: Option<Delay>,
}

/// End one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillContainer {
    pub name: String,
    pub id: String,
    pub attempt: u32,
    pub reason: KillReason,
    /// Text of the `Killing` event.
    pub message: String,
    /// Time to SIGKILL, preStop hook included.
    pub grace: Duration,
}

/// Why an attempt is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// The whole pod ends.
    PodTerminating,
    /// Its spec changed (image).
    SpecChanged,
    LivenessProbe,
    StartupProbe,
    PostStartHook,
    /// An older attempt that still runs, or a container that is not in the spec.
    Superseded,
}

/// Decides the next step. `previous` is the last status told (or the API object's): a terminal phase in it is final.
pub fn compute(
    pod: &Pod,
    observed: &ObservedPod,
    previous: &PodStatus,
    now: Timestamp,
) -> PodActions {
    let _ = (pod, observed, previous, now);
    todo!("session 1")
}
