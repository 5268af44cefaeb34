//! Probes: when to try, and what results mean (kubelet: `prober/worker.go`, `prober/prober.go`).
//!
//! ```text
//! attempt starts ── startup probe ── success ──▶ started ── liveness ── failure ──▶ killed, started anew
//!                        │                          │
//!                     failure ──▶ killed            └── readiness ── success / failure ──▶ ready / not ready
//! ```
//! Without a startup probe a container is started when its postStart hook is done; liveness and readiness wait for it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;

use crate::events::{Event, reason};

mod handler;

pub use handler::{Handler, Hook, Scheme, hook_handler, probe_handler};

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// As events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
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

/// Where a probe stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Startup only: no threshold reached yet.
    Unknown,
    Success,
    Failure,
}

/// A probe of one attempt. One per probe and attempt; the agent owns the loop: wait for [`Prober::next`], try with
/// [`Prober::timeout`], [`Prober::observe`], read [`Prober::outcome`]. A startup probe is over when that is known, a liveness
/// probe when it is a failure.
#[derive(Debug, Clone)]
pub struct Prober {
    kind: ProbeKind,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    started_at: Timestamp,
    /// The last result and how often it came in a row.
    run: Option<(Outcome, u32)>,
    outcome: Outcome,
}

impl Prober {
    /// For an attempt that started at `started_at`.
    pub fn new(kind: ProbeKind, probe: &Probe, started_at: Timestamp) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            let value = value.filter(|value| *value > 0).and_then(|value| u64::try_from(value).ok());
            Duration::from_secs(value.unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.filter(|value| *value > 0).and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
        };
        Self {
            kind,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            started_at,
            run: None,
            outcome: match kind {
                ProbeKind::Startup => Outcome::Unknown,
                ProbeKind::Liveness => Outcome::Success,
                ProbeKind::Readiness => Outcome::Failure,
            },
        }
    }

    /// For an attempt that ran before this agent started: it is what it was told to be (KEP-4781).
    pub fn resumed(kind: ProbeKind, probe: &Probe, started_at: Timestamp, was: Outcome) -> Self {
        Self { outcome: was, ..Self::new(kind, probe, started_at) }
    }

    /// Which of the three it is.
    pub fn kind(&self) -> ProbeKind {
        self.kind
    }

    /// Time limit of one try.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When the next try is due: `initialDelaySeconds` after the start of the attempt, then a period after the last one.
    pub fn next(&self, last: Option<Timestamp>) -> Timestamp {
        let due = match last {
            Some(last) => last.saturating_add(self.period),
            None => self.started_at.saturating_add(self.initial_delay),
        };
        due.unwrap_or(Timestamp::MAX)
    }

    /// Takes a result; returns the event to record, if any.
    pub fn observe(&mut self, result: &ProbeResult) -> Option<Event> {
        let kind = self.kind.as_str();
        let (result, event) = match result {
            ProbeResult::Success => (Outcome::Success, None),
            ProbeResult::Warning { output } => {
                let event = Event::warning(reason::PROBE_WARNING, format!("{kind} probe warning: {output}"));
                (Outcome::Success, Some(event))
            }
            ProbeResult::Failure { output } => {
                let event = Event::warning(reason::UNHEALTHY, format!("{kind} probe failed: {output}"));
                (Outcome::Failure, Some(event))
            }
            ProbeResult::Unknown { error } => {
                let message = format!("{kind} probe errored and resulted in unknown state: {error}");
                return Some(Event::warning(reason::UNHEALTHY, message));
            }
        };
        let in_a_row = match self.run {
            Some((last, count)) if last == result => count.saturating_add(1),
            Some(_) | None => 1,
        };
        self.run = Some((result, in_a_row));
        let threshold = if result == Outcome::Success { self.success_threshold } else { self.failure_threshold };
        if in_a_row >= threshold {
            self.outcome = result;
        }
        event
    }

    /// Where it stands.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

#[cfg(test)]
mod tests;
