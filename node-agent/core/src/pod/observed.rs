//! What the agent sees of a pod on this node, as plain values: the input of every decision.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::actions::KillReason;
use crate::backoff::{Backoff, Delay, KUBELET};

/// All that is known of one pod here, beside its API object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedPod {
    /// When this node took the pod on. Becomes `status.startTime` unless an earlier one was told already.
    pub accepted_at: Timestamp,
    /// The node's addresses, primary first.
    pub host_ips: Vec<IpAddr>,
    /// The pod's addresses, volumes and cgroup.
    pub sandbox: Sandbox,
    /// Every attempt of every container that is known, in any order. Several of one name differ in `attempt`.
    pub containers: Vec<ObservedContainer>,
    /// By container name: why the last try to start it did not come to a running attempt. The worker writes it after a
    /// failed effect and removes it when the container started.
    pub waiting: BTreeMap<String, Waiting>,
    /// By container name: the restart delay in force. The worker records here the [`super::StartContainer::delay`] of
    /// what it started.
    pub delays: BTreeMap<String, Delay>,
    /// How those grow on this node.
    pub restart_backoff: Backoff,
    /// A wish to end the pod that its API object does not show: rejected, evicted, node shutting down.
    pub termination: Option<Termination>,
    /// When the worker began to end the pod ([`super::Life::terminating_at`]); bounds the grace of sidecars, which are
    /// ended last.
    pub terminating_at: Option<Timestamp>,
}

/// What a pod's containers share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Network, volumes and cgroup are there: containers may start.
    pub ready: bool,
    /// Primary first. Empty until assigned; `hostNetwork` pods have the host's.
    pub pod_ips: Vec<IpAddr>,
}

/// One attempt of one container.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedContainer {
    pub name: String,
    pub kind: ContainerKind,
    /// 0 for the first; becomes `restartCount`.
    pub attempt: u32,
    /// 64 hexadecimal digits, without `samara://`.
    pub id: String,
    /// Image name as told in the status (the reference that was resolved).
    pub image: String,
    /// Reference with manifest digest.
    pub image_id: String,
    /// [`crate::oci::spec_hash`] of the container that this attempt was made from.
    pub spec_hash: String,
    pub state: ContainerState,
}

/// Which list of the pod's spec a container is in. A sidecar is of kind `Init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerKind {
    Init,
    Regular,
}

/// Where an attempt is.
#[derive(Debug, Clone, PartialEq)]
pub enum ContainerState {
    /// Made, guest not started.
    Created,
    Running(Running),
    Exited(Exit),
}

/// A running attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub started_at: Timestamp,
    /// postStart hook done and startup probe passed (or neither there). From [`crate::probe::Prober`].
    pub started: bool,
    /// Readiness probe passes, or there is none. Means nothing until `started`.
    pub ready: bool,
    /// A reason to restart it that probes or hooks found.
    pub failure: Option<Failure>,
    /// Set when its end was requested.
    pub stopping: Option<Stopping>,
}

/// What probes and hooks hold against a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// `failureThreshold` liveness probes in a row.
    Liveness,
    /// `failureThreshold` startup probes in a row.
    Startup,
    /// The postStart hook failed.
    PostStartHook,
}

/// An end that was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    pub since: Timestamp,
    /// From `since` to SIGKILL, preStop hook included.
    pub grace: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255.
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Termination message, trap text or what the shim said.
    pub message: Option<String>,
    /// `None` if the guest never started.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// `false`: nobody saw the end, the code is a guess (told as `ContainerStatusUnknown`, 137).
    pub seen: bool,
    /// What this node ended it for; `None`: it ended by itself, or nobody remembers.
    pub killed: Option<KillReason>,
}

/// Why a container has no running attempt, as an effect found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// One of [`crate::reasons::waiting`].
    pub reason: &'static str,
    pub message: String,
    /// No try before this. `None`: as soon as the restart delay allows it. A change of the pod's spec or of an object that
    /// it refers to is the worker's reason to remove the whole entry before.
    pub retry_at: Option<Timestamp>,
}

/// An end of the whole pod that this node decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// `status.reason`: one of [`crate::reasons::pod`].
    pub reason: &'static str,
    /// `status.message`.
    pub message: String,
    pub requested_at: Timestamp,
    /// `None`: the pod's own.
    pub grace: Option<Duration>,
}

impl ObservedPod {
    /// Nothing made yet.
    pub fn new(accepted_at: Timestamp) -> Self {
        Self {
            accepted_at,
            host_ips: Vec::new(),
            sandbox: Sandbox::default(),
            containers: Vec::new(),
            waiting: BTreeMap::new(),
            delays: BTreeMap::new(),
            restart_backoff: KUBELET,
            termination: None,
            terminating_at: None,
        }
    }

    /// The newest attempt of a container.
    pub fn latest(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers.iter().filter(|container| container.name == name).max_by_key(|container| container.attempt)
    }

    /// The attempt before the newest.
    pub fn before_latest(&self, name: &str) -> Option<&ObservedContainer> {
        let latest = self.latest(name)?.attempt;
        self.containers
            .iter()
            .filter(|container| container.name == name && container.attempt < latest)
            .max_by_key(|container| container.attempt)
    }

    /// Whether any attempt of any container is running.
    pub fn any_running(&self) -> bool {
        self.containers.iter().any(|container| container.running().is_some())
    }
}

impl ObservedContainer {
    /// `Some` while it runs.
    pub fn running(&self) -> Option<&Running> {
        match &self.state {
            ContainerState::Running(running) => Some(running),
            ContainerState::Created | ContainerState::Exited(_) => None,
        }
    }

    /// `Some` once it ended.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            ContainerState::Created | ContainerState::Running(_) => None,
        }
    }
}
