//! What effects report to their worker.

use std::sync::Arc;

use samara_core::backoff::Delay;
use samara_core::pod::Waiting;

use super::sandbox::Sandbox;
use crate::probes::Finding;
use crate::shims::{Ended, Record, Task};

/// One attempt of one container: its name and number.
pub(super) type Key = (String, u32);

/// Something that changes what is known of the pod.
#[derive(Debug)]
pub(super) enum Happened {
    /// Network, volumes and files are there.
    SandboxReady(Arc<Sandbox>),
    /// Nothing of the sandbox is left.
    SandboxDown,
    /// A ConfigMap or Secret of the pod has changed.
    ObjectsChanged,
    /// A guest runs.
    Started(Box<Started>),
    /// It does not.
    NotStarted { name: String, waiting: Waiting },
    /// The start was called off, and what was made for it is gone.
    CalledOff { name: String },
    /// Probes and hooks found something.
    Probed { key: Key, finding: Finding },
    /// An attempt ended, and its front holds nothing of it any more.
    Ended { key: Key, ended: Ended },
}

/// A new attempt.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) task: Task,
    pub(super) record: Record,
    pub(super) delay: Option<Delay>,
}
