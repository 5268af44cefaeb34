//! The life of one process, first or exec, as a state machine. Pure.
//!
//! ```text
//!                created            start                  exit
//!  Creating ───────────────▶ Created ─────▶ Running ──────────────────▶ Stopped ──▶ deleted
//!     │ ▲                       │            │   ▲                        ▲
//!     │ │ start                 │            ▼   │ resume                 │
//!     │ Added (exec)            │           Paused ── exit ───────────────┤
//!     │                         └──────────────────── exit ───────────────┤
//!     └─ failed ──▶ Failed                                                │
//! ```
//!
//! An exec is `Added` without a process; its start makes one, so it goes through `Creating` too.

use samara_shim_client::bundle::ExitRecord;

/// Where a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// An exec that was not started.
    Added,
    /// On the way to a process.
    Creating,
    /// The process is set up; its guest waits.
    Created { pid: i32 },
    /// The guest runs.
    Running { pid: i32 },
    /// The guest is held by the freezer.
    Paused { pid: i32 },
    /// The process has ended.
    Stopped(ExitRecord),
    /// No process came to be.
    Failed,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// An exec is started.
    Create,
    Created {
        pid: i32,
    },
    Start,
    Pause,
    Resume,
    Exit(ExitRecord),
    Fail,
}

/// A step that is not possible there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {step} a process that is {phase}")]
pub struct IllegalStep {
    pub(crate) step: &'static str,
    pub(crate) phase: &'static str,
}

impl Phase {
    /// The next phase.
    pub(crate) fn after(&self, step: Step) -> Result<Self, IllegalStep> {
        match (self, step) {
            (Self::Added, Step::Create) => Ok(Self::Creating),
            (Self::Creating, Step::Created { pid }) => Ok(Self::Created { pid }),
            (Self::Creating, Step::Fail) => Ok(Self::Failed),
            (Self::Created { pid }, Step::Start) => Ok(Self::Running { pid: *pid }),
            (Self::Running { pid }, Step::Pause) => Ok(Self::Paused { pid: *pid }),
            (Self::Paused { pid }, Step::Resume) => Ok(Self::Running { pid: *pid }),
            // Also while it is being created: its set-up may fail after the fork.
            (
                Self::Creating | Self::Created { .. } | Self::Running { .. } | Self::Paused { .. },
                Step::Exit(record),
            ) => Ok(Self::Stopped(record)),
            (phase, step) => Err(IllegalStep { step: step.name(), phase: phase.name() }),
        }
    }

    /// In words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Added => "not started",
            Self::Creating => "being created",
            Self::Created { .. } => "created",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Stopped(_) => "stopped",
            Self::Failed => "failed",
        }
    }

    /// The living process.
    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Self::Created { pid } | Self::Running { pid } | Self::Paused { pid } => Some(*pid),
            Self::Added | Self::Creating | Self::Stopped(_) | Self::Failed => None,
        }
    }

    /// How it ended.
    pub(crate) fn exit(&self) -> Option<&ExitRecord> {
        match self {
            Self::Stopped(record) => Some(record),
            Self::Added
            | Self::Creating
            | Self::Created { .. }
            | Self::Running { .. }
            | Self::Paused { .. }
            | Self::Failed => None,
        }
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Created { .. } => "finish creating",
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Exit(_) => "end",
            Self::Fail => "give up",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ExitRecord {
        ExitRecord { pid: 7, exit_code: 3, oom_killed: false, message: None, exited_at_nanos: 1, seen: true }
    }

    fn phases() -> [Phase; 7] {
        let pid = 7;
        [
            Phase::Added,
            Phase::Creating,
            Phase::Created { pid },
            Phase::Running { pid },
            Phase::Paused { pid },
            Phase::Stopped(record()),
            Phase::Failed,
        ]
    }

    #[test]
    fn exactly_the_drawn_steps_are_possible() {
        let steps = || {
            [
                Step::Create,
                Step::Created { pid: 7 },
                Step::Start,
                Step::Pause,
                Step::Resume,
                Step::Exit(record()),
                Step::Fail,
            ]
        };
        let possible: Vec<_> = phases()
            .iter()
            .flat_map(|phase| steps().map(|step| (phase.name(), step.name(), phase.after(step))))
            .filter_map(|(from, step, to)| Some(format!("{from} + {step} = {}", to.ok()?.name())))
            .collect();
        assert_eq!(
            possible,
            [
                "not started + create = being created",
                "being created + finish creating = created",
                "being created + end = stopped",
                "being created + give up = failed",
                "created + start = running",
                "created + end = stopped",
                "running + pause = paused",
                "running + end = stopped",
                "paused + resume = running",
                "paused + end = stopped",
            ]
        );
    }

    #[test]
    fn an_illegal_step_says_which_and_where() {
        let error = Phase::Stopped(record()).after(Step::Start).expect_err("illegal");
        assert_eq!(error.to_string(), "cannot start a process that is stopped");
    }
}
