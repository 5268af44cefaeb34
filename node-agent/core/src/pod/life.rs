//! A pod's three states on this node, derived from timestamps that are set once, so that they cannot go back.
//!
//! ```text
//! syncing ──terminate()──▶ terminating ──terminated()──▶ terminated
//! ```

use jiff::Timestamp;

/// What the worker of a pod is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodState {
    /// Containers are started, restarted and updated.
    Syncing,
    /// Containers are ended; none starts.
    Terminating,
    /// No container runs; what is left is cleaned up and the API object may go.
    Terminated,
}

/// The timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    accepted_at: Timestamp,
    terminating_at: Option<Timestamp>,
    terminated_at: Option<Timestamp>,
}

impl Life {
    /// Begins in [`PodState::Syncing`].
    pub fn new(accepted_at: Timestamp) -> Self {
        Self { accepted_at, terminating_at: None, terminated_at: None }
    }

    /// Where it is.
    pub fn state(&self) -> PodState {
        match (self.terminating_at, self.terminated_at) {
            (_, Some(_)) => PodState::Terminated,
            (Some(_), None) => PodState::Terminating,
            (None, None) => PodState::Syncing,
        }
    }

    /// When the node took it on.
    pub fn accepted_at(&self) -> Timestamp {
        self.accepted_at
    }

    /// Since when it ends.
    pub fn terminating_at(&self) -> Option<Timestamp> {
        self.terminating_at
    }

    /// The first call counts.
    pub fn terminate(&mut self, now: Timestamp) {
        self.terminating_at.get_or_insert(now);
    }

    /// No container runs any more. The first call counts; implies [`Life::terminate`].
    pub fn terminated(&mut self, now: Timestamp) {
        self.terminate(now);
        self.terminated_at.get_or_insert(now);
    }
}
