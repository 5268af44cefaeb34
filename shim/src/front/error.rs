//! What a task call can fail with, and the one table from error to ttrpc code.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use ttrpc::{Code, get_status};

use super::code::CodeError;
use super::hooks::HookError;
use super::open::OpenError;
use super::outline::OutlineError;
use super::phase::IllegalStep;
use super::signals::UnknownSignal;
use crate::container::control::ControlError;
use samara_shim_client::cgroup::CgroupError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("no such task: {0}")]
    NoTask(String),
    #[error("no such exec: {0}")]
    NoExec(String),
    #[error("process already finished")]
    Finished,
    #[error("the process has ended, so it listens no more")]
    ListensNoMore,
    #[error("task {0} already exists")]
    TaskExists(String),
    #[error("exec {0} already exists")]
    ExecExists(String),
    #[error("{0:?} is no id: it is empty, too long, or holds something other than letters, digits, '.', '_', '-'")]
    Id(String),
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
    #[error("cannot {step}: the container is {phase}")]
    ContainerIs { step: &'static str, phase: &'static str },
    #[error("read {}", path.display())]
    ReadConfig { path: PathBuf, source: io::Error },
    #[error("{}: not an OCI configuration", path.display())]
    ParseConfig { path: PathBuf, source: serde_json::Error },
    #[error("{}: larger than {limit} bytes", path.display())]
    HugeConfig { path: PathBuf, limit: u64 },
    #[error("request: {field}: not JSON of the OCI runtime specification")]
    Request { field: &'static str, source: serde_json::Error },
    #[error(transparent)]
    Outline(#[from] OutlineError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("the task has no cgroup")]
    NoCgroup,
    #[error("cgroup {} has processes in it that are not the container's", path.display())]
    CgroupOccupied { path: PathBuf },
    #[error(transparent)]
    Signal(#[from] UnknownSignal),
    #[error("fork")]
    Fork(#[source] io::Error),
    /// The container's own words.
    #[error("{0}")]
    SetUp(String),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("the process has no terminal")]
    NoTerminal,
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("the front is being replaced: try again")]
    Replaced,
}

impl TaskError {
    /// The table. What a client can do about it decides: go on without it, wait, change the request, or give up.
    fn code(&self) -> Code {
        match self {
            Self::NoTask(_) | Self::NoExec(_) | Self::Finished => Code::NOT_FOUND,
            Self::TaskExists(_) | Self::ExecExists(_) => Code::ALREADY_EXISTS,
            Self::ListensNoMore
            | Self::Illegal(_)
            | Self::ContainerIs { .. }
            | Self::NoCgroup
            | Self::CgroupOccupied { .. }
            | Self::NoTerminal => Code::FAILED_PRECONDITION,
            Self::Id(_)
            | Self::ReadConfig { .. }
            | Self::ParseConfig { .. }
            | Self::HugeConfig { .. }
            | Self::Request { .. }
            | Self::Outline(_)
            | Self::Code(_)
            | Self::Signal(_) => Code::INVALID_ARGUMENT,
            Self::Unsupported(_) => Code::UNIMPLEMENTED,
            Self::Open(OpenError::Unsupported(_)) => Code::UNIMPLEMENTED,
            Self::Open(_) | Self::Cgroup(_) | Self::SetUp(_) | Self::Hook(_) | Self::Control(_) | Self::Io { .. } => {
                Code::INTERNAL
            }
            Self::Fork(_) | Self::Replaced => Code::UNAVAILABLE,
        }
    }
}

impl From<TaskError> for ttrpc::Error {
    fn from(error: TaskError) -> Self {
        Self::RpcStatus(get_status(error.code(), chain(&error)))
    }
}

/// An error with its causes, on one line: the wire has room for one text.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let source = io::Error::other("disk on fire");
        let error = TaskError::Io { operation: "make", path: "/x".into(), source };
        assert_eq!(chain(&error), "make /x: disk on fire");
        let error = TaskError::Illegal(IllegalStep { step: "start", phase: "stopped" });
        assert_eq!(chain(&error), "cannot start a process that is stopped");
    }
}
