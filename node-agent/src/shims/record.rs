//! What the agent knows of an attempt and the shim does not: `agent.json` in the bundle.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use samara_core::pod::{ContainerKind, ContainerState, Exit, ObservedContainer, Running};
use serde::{Deserialize, Serialize};

const FILE: &str = "agent.json";

/// One attempt of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    /// In `spec.initContainers`.
    pub init: bool,
    pub attempt: u32,
    /// As told in the status.
    pub image: String,
    pub image_id: String,
    pub spec_hash: String,
    /// Number of the front that holds it.
    pub front: u32,
    pub log: PathBuf,
    /// Set when the guest runs.
    pub started_at: Option<Timestamp>,
    /// Set when its end was read and the task was deleted from the front.
    pub ended: Option<Ended>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ended {
    pub exit_code: i32,
    pub oom_killed: bool,
    pub message: Option<String>,
    pub finished_at: Timestamp,
    pub seen: bool,
}

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("container record {}", path.display())]
pub struct RecordError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl RecordError {
    pub(super) fn at(path: PathBuf, source: io::Error) -> Self {
        Self { path, source }
    }
}

impl Record {
    /// Written by rename: a reader sees all of it or the one before.
    pub fn write(&self, bundle: &Path) -> Result<(), RecordError> {
        let path = bundle.join(FILE);
        let temporary = path.with_extension("tmp");
        let bytes = serde_json::to_vec(self).map_err(io::Error::other);
        let result = bytes.and_then(|bytes| fs::write(&temporary, bytes)).and_then(|()| fs::rename(&temporary, &path));
        result.map_err(|source| RecordError { path, source })
    }

    /// `None`: the agent died before it was written.
    pub fn read(bundle: &Path) -> Result<Option<Self>, RecordError> {
        let path = bundle.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| RecordError { path, source: io::Error::other(error) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecordError { path, source }),
        }
    }

    /// As the rules see it. Probes say later whether it is started and ready.
    pub fn observed(&self) -> ObservedContainer {
        let state = match (&self.ended, self.started_at) {
            (Some(ended), started_at) => ContainerState::Exited(ended.to_exit(started_at)),
            (None, Some(started_at)) => ContainerState::Running(Running {
                started_at,
                started: false,
                ready: false,
                failure: None,
                stopping: None,
            }),
            (None, None) => ContainerState::Created,
        };
        ObservedContainer {
            name: self.name.clone(),
            kind: if self.init { ContainerKind::Init } else { ContainerKind::Regular },
            attempt: self.attempt,
            id: self.id.clone(),
            image: self.image.clone(),
            image_id: self.image_id.clone(),
            spec_hash: self.spec_hash.clone(),
            state,
        }
    }
}

impl Ended {
    /// As the rules see it.
    pub fn to_exit(&self, started_at: Option<Timestamp>) -> Exit {
        Exit {
            exit_code: self.exit_code,
            oom_killed: self.oom_killed,
            message: self.message.clone(),
            started_at,
            finished_at: self.finished_at,
            seen: self.seen,
            killed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: "a".repeat(64),
            name: "app".to_owned(),
            init: false,
            attempt: 3,
            image: "registry/app:1".to_owned(),
            image_id: "registry/app@sha256:1".to_owned(),
            spec_hash: "h".to_owned(),
            front: 7,
            log: "/var/log/pods/x/3.log".into(),
            started_at: None,
            ended: None,
        }
    }

    #[test]
    fn what_was_written_is_read_and_the_state_follows_from_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        let mut record = record();
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap().unwrap().observed().state, ContainerState::Created);
        record.started_at = Some(Timestamp::from_second(5).unwrap());
        record.write(dir.path()).unwrap();
        assert!(Record::read(dir.path()).unwrap().unwrap().observed().running().is_some());
        record.ended = Some(Ended {
            exit_code: 3,
            oom_killed: false,
            message: Some("bye".to_owned()),
            finished_at: Timestamp::from_second(9).unwrap(),
            seen: true,
        });
        record.write(dir.path()).unwrap();
        let read = Record::read(dir.path()).unwrap().unwrap();
        assert_eq!(read, record);
        assert_eq!(read.observed().exit().unwrap().started_at, record.started_at);
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"id\":", "null"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = Record::read(dir.path()).unwrap_err();
            assert!(error.to_string().ends_with(FILE), "{text:?}: {error}");
        }
    }
}
