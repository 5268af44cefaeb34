//! What a run has made, on disk, and its undoing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::cgroup;
use super::namespace::Namespace;
use super::process::ProcessId;

/// All that a run has made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// The harness's process; none for a run that was left up on purpose.
    pub owner: Option<ProcessId>,
    /// Programs, in the order of their start.
    pub processes: Vec<ProcessId>,
    /// Names of network namespaces.
    pub namespaces: Vec<String>,
    /// Cgroup scopes: everything beneath them is the run's.
    pub cgroups: Vec<String>,
    /// Directories; what is mounted beneath them is unmounted first.
    pub directories: Vec<PathBuf>,
}

impl Record {
    /// An empty record of this process.
    pub fn owned_by_this_process() -> Self {
        Self { owner: Some(ProcessId::own()), ..Self::default() }
    }

    /// `None` if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let record = serde_json::from_slice(&bytes).with_context(|| format!("{} is not a ledger", path.display()))?;
        Ok(Some(record))
    }

    /// For messages.
    pub fn owner_text(&self) -> String {
        self.owner.map_or_else(|| "none: it was left up".into(), |owner| owner.pid.to_string())
    }
}

/// A record with its file.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    record: Record,
}

impl Ledger {
    /// Writes the record to its file.
    pub fn open(path: &Path, record: Record) -> Result<Self> {
        let ledger = Self { path: path.to_owned(), record };
        ledger.write()?;
        Ok(ledger)
    }

    /// What is written.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Changes the record, on disk too.
    pub fn note(&mut self, change: impl FnOnce(&mut Record)) -> Result<()> {
        change(&mut self.record);
        self.write()
    }

    /// Ends and removes everything; may be called again after an error, and after success does nothing.
    pub fn undo(&mut self) -> Result<()> {
        for scope in &self.record.cgroups {
            cgroup::remove(scope)?;
        }
        for process in self.record.processes.iter().rev() {
            process.kill()?;
        }
        for name in self.record.namespaces.iter().rev() {
            Namespace::remove(name)?;
        }
        for dir in self.record.directories.iter().rev() {
            unmount_beneath(dir)?;
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", dir.display()));
                }
                _ => {}
            }
        }
        self.record = Record { owner: self.record.owner, ..Record::default() };
        Ok(())
    }

    /// By rename: a reader sees all of it or none.
    fn write(&self) -> Result<()> {
        let dir = self.path.parent().context("a ledger has a directory")?;
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec_pretty(&self.record)?)
            .with_context(|| format!("write {}", temporary.display()))?;
        fs::rename(&temporary, &self.path).with_context(|| format!("write {}", self.path.display()))
    }
}

/// Unmounts all that is mounted at or beneath a directory, last first.
fn unmount_beneath(dir: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    for point in mount_points(&table).into_iter().rev().filter(|point| point.starts_with(dir)) {
        nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", point.display()))?;
    }
    Ok(())
}

/// Mount points of a mountinfo table, in the order of mounting. Spaces in a path are written as `\040`.
pub fn mount_points(table: &str) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_with_their_spaces() {
        let table = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /run/a\\040b rw shared:1 - tmpfs t rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/"), PathBuf::from("/run/a b")]);
    }

    #[test]
    fn what_is_noted_is_on_disk_and_undoing_twice_is_no_error() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let made = dir.path().join("made");
        let path = dir.path().join("run/ledger.json");
        let mut ledger = Ledger::open(&path, Record::owned_by_this_process()).expect("open");
        ledger.note(|record| record.directories.push(made.clone())).expect("note");
        assert_eq!(Record::read(&path).expect("read").as_ref(), Some(ledger.record()));
        fs::create_dir(&made).expect("make");
        ledger.undo().expect("undo");
        assert!(!made.exists());
        ledger.undo().expect("undo again");
    }

    #[test]
    fn a_ledger_that_is_no_json_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("ledger.json");
        fs::write(&path, "{").expect("write");
        let text = Record::read(&path).expect_err("not a ledger").to_string();
        assert!(text.contains("ledger.json"), "{text}");
    }
}
