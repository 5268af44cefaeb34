//! What a container is doing, from its records and from who lives. Pure.

use jiff::Timestamp;
use serde::Serialize;

use super::state::{Ended, Phase, State};
use crate::colour::Tone;

/// As `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "status")]
pub(crate) enum Status {
    Created,
    /// Compiled, or set up: soon it runs.
    Starting,
    #[serde(rename_all = "camelCase")]
    Running {
        started_at: Option<Timestamp>,
    },
    #[serde(rename_all = "camelCase")]
    Restarting {
        ended: Option<Ended>,
    },
    #[serde(rename_all = "camelCase")]
    Exited {
        ended: Option<Ended>,
    },
}

impl Status {
    /// `supervised`: its supervisor lives; `living`: its process does; `exit`: what the zygote wrote of its end.
    pub(crate) fn of(state: &State, supervised: bool, living: bool, exit: Option<Ended>) -> Self {
        if living {
            return Self::Running { started_at: state.started_at };
        }
        match (state.phase, supervised) {
            // Its supervisor is about to say what comes next.
            (Phase::Running, true) => Self::Running { started_at: state.started_at },
            (Phase::Running, false) => Self::Exited { ended: exit.or_else(|| state.ended.clone()) },
            (Phase::Restarting, true) => Self::Restarting { ended: state.ended.clone() },
            (Phase::Restarting, false) | (Phase::Exited, _) => Self::Exited { ended: state.ended.clone() },
            (Phase::Created, true) => Self::Starting,
            (Phase::Created, false) => Self::Created,
        }
    }

    /// Whether it will run without anybody starting it.
    pub(crate) fn is_up(&self) -> bool {
        match self {
            Self::Starting | Self::Running { .. } | Self::Restarting { .. } => true,
            Self::Created | Self::Exited { .. } => false,
        }
    }

    /// Every [`Status::word`].
    pub(crate) const WORDS: [&str; 5] = ["created", "starting", "running", "restarting", "exited"];

    /// One word, as docker's `.State.Status`.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Restarting { .. } => "restarting",
            Self::Exited { .. } => "exited",
        }
    }

    /// How it is to be taken.
    pub(crate) fn tone(&self) -> Tone {
        match self {
            Self::Running { .. } => Tone::Good,
            Self::Starting | Self::Restarting { .. } => Tone::Doubtful,
            Self::Exited { ended: Some(ended) } if ended.exit_code != 0 => Tone::Bad,
            Self::Created | Self::Exited { .. } => Tone::Plain,
        }
    }

    /// As docker's STATUS column.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let ago = |at: Timestamp| crate::format::duration(now.duration_since(at).as_secs());
        match self {
            Self::Created => "Created".into(),
            Self::Starting => "Starting".into(),
            Self::Running { started_at: Some(at) } => format!("Up {}", ago(*at)),
            Self::Running { started_at: None } => "Up".into(),
            Self::Restarting { ended: Some(ended) } => {
                format!("Restarting ({}) {} ago", ended.exit_code, ago(ended.finished_at))
            }
            Self::Restarting { ended: None } => "Restarting".into(),
            Self::Exited { ended: Some(ended) } => {
                let why = if ended.oom_killed { ", out of memory" } else { "" };
                format!("Exited ({}{why}) {} ago", ended.exit_code, ago(ended.finished_at))
            }
            Self::Exited { ended: None } => "Exited (unknown)".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: u8) -> Ended {
        Ended { exit_code, oom_killed: false, message: None, finished_at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn what_lives_counts_more_than_what_is_written() {
        let (dead, alive) = (false, true);
        let state = |phase| State { phase, ended: Some(ended(1)), ..State::default() };
        let exited = |code| Status::Exited { ended: Some(ended(code)) };
        let up = Status::Running { started_at: None };
        let restarting = Status::Restarting { ended: Some(ended(1)) };
        for (phase, supervised, living, exit, expected) in [
            (Phase::Created, alive, dead, None, Status::Starting),
            (Phase::Created, dead, dead, None, Status::Created),
            (Phase::Running, alive, alive, None, up.clone()),
            (Phase::Running, dead, alive, None, up.clone()),
            (Phase::Running, alive, dead, Some(7), up.clone()),
            (Phase::Running, dead, dead, Some(7), exited(7)),
            (Phase::Running, dead, dead, None, exited(1)),
            (Phase::Restarting, alive, dead, None, restarting),
            (Phase::Restarting, dead, dead, None, exited(1)),
            (Phase::Exited, alive, dead, None, exited(1)),
            (Phase::Exited, dead, dead, Some(7), exited(1)),
        ] {
            let found = Status::of(&state(phase), supervised, living, exit.map(ended));
            assert_eq!(found, expected, "{phase:?} supervised: {supervised} living: {living}");
        }
    }

    #[test]
    fn the_text_says_how_long_and_why() {
        let now = Timestamp::from_second(120).unwrap();
        let oom = Ended { oom_killed: true, ..ended(137) };
        for (status, text) in [
            (Status::Created, "Created"),
            (Status::Starting, "Starting"),
            (Status::Running { started_at: Some(Timestamp::from_second(115).unwrap()) }, "Up 5 seconds"),
            (Status::Exited { ended: Some(ended(3)) }, "Exited (3) 2 minutes ago"),
            (Status::Exited { ended: Some(oom) }, "Exited (137, out of memory) 2 minutes ago"),
            (Status::Restarting { ended: Some(ended(1)) }, "Restarting (1) 2 minutes ago"),
            (Status::Exited { ended: None }, "Exited (unknown)"),
        ] {
            assert_eq!(status.text(now), text);
        }
    }
}
