//! Pods' status told to files, where there is no API server: `<run-dir>/status/<uid>.json`, a Pod without its spec.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::pods::PodRef;

/// Warnings of one pod that are kept.
const WARNINGS: usize = 16;

/// The directory of all of them.
#[derive(Debug, Clone)]
pub struct StatusFiles {
    dir: PathBuf,
}

impl StatusFiles {
    /// With what an earlier agent told of pods that it left here, by UID; of all others nothing stays.
    pub fn open(dir: &Path, is_here: impl Fn(&str) -> bool) -> io::Result<(Self, BTreeMap<Arc<str>, PodStatus>)> {
        let mut told = BTreeMap::new();
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match uid(&path).filter(|uid| is_here(uid)).zip(read(&path)) {
                Some((uid, status)) => drop(told.insert(uid.into(), status)),
                None => fs::remove_file(path)?,
            }
        }
        Ok((Self { dir: dir.to_owned() }, told))
    }

    /// By rename: a reader sees the old or the new.
    pub(super) fn write(&self, pod: &PodRef, status: PodStatus) -> io::Result<()> {
        let object = Pod {
            metadata: ObjectMeta {
                name: Some(pod.name.to_string()),
                namespace: Some(pod.namespace.to_string()),
                uid: Some(pod.uid.to_string()),
                ..ObjectMeta::default()
            },
            spec: None,
            status: Some(status),
        };
        let path = self.path(&pod.uid);
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(&object)?)?;
        fs::rename(&temporary, &path)
    }

    /// Puts a warning beside a pod's status, `<uid>.warnings`, a line each; the latest ones are kept. That this fails is
    /// no matter: it is in the log.
    pub fn warn(&self, uid: &str, warning: &str) {
        let path = self.path(uid).with_extension("warnings");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let mut lines: Vec<&str> = before.lines().collect();
        let warning = warning.replace('\n', " ");
        lines.retain(|line| *line != warning);
        lines.push(&warning);
        let from = lines.len().saturating_sub(WARNINGS);
        let written = fs::write(&path, lines[from..].join("\n"));
        if let Err(error) = written {
            tracing::debug!(%error, "a warning could not be written down");
        }
    }

    /// Nothing of the pod is left.
    pub(super) fn remove(&self, uid: &str) -> io::Result<()> {
        // The status is the last to go: who waits for the end waits for that.
        for path in [self.path(uid).with_extension("warnings"), self.path(uid)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.dir.join(format!("{uid}.json"))
    }
}

/// Of a file that [`StatusFiles::write`] wrote.
fn uid(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(".json")
}

/// `None` for what is no status.
fn read(path: &Path) -> Option<PodStatus> {
    serde_json::from_slice::<Pod>(&fs::read(path).ok()?).ok()?.status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodRef {
        PodRef { uid: "u".into(), namespace: "default".into(), name: "web".into() }
    }

    fn running() -> PodStatus {
        PodStatus { phase: Some("Running".to_owned()), ..PodStatus::default() }
    }

    #[test]
    fn a_status_is_there_until_the_pod_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status");
        let (files, told) = StatusFiles::open(&path, |_| true).unwrap();
        assert!(told.is_empty());
        files.write(&pod(), running()).unwrap();
        let read: Pod = serde_json::from_slice(&fs::read(path.join("u.json")).unwrap()).unwrap();
        assert_eq!((read.metadata.name.as_deref(), read.status), (Some("web"), Some(running())));
        (0..20).for_each(|number| files.warn("u", &format!("{number}\nmore")));
        let kept = fs::read_to_string(path.join("u.warnings")).unwrap();
        assert_eq!((kept.lines().count(), kept.lines().next_back()), (WARNINGS, Some("19 more")));
        files.remove("u").unwrap();
        files.remove("u").unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_agent_told_is_known_of_pods_that_are_here_and_gone_of_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = StatusFiles::open(dir.path(), |_| true).unwrap();
        for uid in ["here", "away"] {
            files.write(&PodRef { uid: uid.into(), ..pod() }, running()).unwrap();
        }
        files.warn("here", "once more if it is still so");
        for (name, text) in [("broken.json", "{"), ("empty.json", ""), ("cut.tmp", "{}"), ("bare.json", "{}")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let (_, told) = StatusFiles::open(dir.path(), |uid| uid != "away").unwrap();
        assert_eq!(told, BTreeMap::from([("here".into(), running())]));
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["here.json"]);
    }
}
