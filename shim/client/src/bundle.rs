//! The files of a bundle beside `config.json` and `rootfs/`, and who writes them.
//!
//! | file | writer | when |
//! |---|---|---|
//! | `start.json` ([`StartRecord`]) | zygote | after the fork, before anyone is told of the pid |
//! | `exit.json` ([`ExitRecord`]) | zygote (front, if the zygote died) | at reap, before anyone is told |
//! | `task.json` ([`TaskRecord`]) | front | before the fork |
//! | `process.json` (OCI `process`) | front | in an exec's directory, when it is added |
//! | `control.sock` | front | before the fork; the container's control thread listens on it |
//! | `exec/<exec id>/` | as above, for each exec | |
//!
//! Every record is written to a temporary name and renamed, so a reader sees all of it or none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `start.json`: which process this container is. Pid and start time together name a process for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartRecord {
    /// Process id as the host sees it.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_time: u64,
    /// Nanoseconds since the epoch at which the process was forked.
    pub created_at_nanos: i64,
}

/// `exit.json`: how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    /// Process id as the host saw it.
    pub pid: i32,
    /// 0 to 255; 128 + signal for a killed one; 137 when memory ran out; 255 if nobody saw the end.
    pub exit_code: u32,
    /// Ended because its memory limit was reached (by our counter or the kernel's).
    pub oom_killed: bool,
    /// What the guest's host code said of the end (a trap's message), at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Nanoseconds since the epoch.
    pub exited_at_nanos: i64,
    /// `false` when the end was not seen by its parent (both front and zygote were dead): the code is then a guess.
    pub seen: bool,
}

/// `task.json`: what was asked for and cannot be read from `config.json`, so that another front can take over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskRecord {
    /// Container id.
    pub id: String,
    /// Empty for the container's first process.
    pub exec_id: String,
    /// `linux.cgroupsPath`, if it has a cgroup.
    pub cgroups_path: Option<String>,
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
    /// How long it may take to stop.
    pub grace_period_seconds: u32,
}

/// A bundle, or an exec's directory inside one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    /// Names a bundle; touches nothing.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// OCI runtime configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Where the root file system is, for a container that has no mounts of its own for it.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Socket of the container's control thread.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Directory of one exec.
    pub fn exec(&self, exec_id: &str) -> Self {
        Self::new(self.dir.join("exec").join(exec_id))
    }

    /// `None` for a bundle that no front has begun with.
    pub fn task_record(&self) -> io::Result<Option<TaskRecord>> {
        read(&self.dir.join("task.json"))
    }

    /// Written by rename.
    pub fn write_task(&self, record: &TaskRecord) -> io::Result<()> {
        write(&self.dir.join("task.json"), record)
    }

    /// What an exec is to be, as it was asked for: JSON of an OCI `process`. `None` for a container's first process.
    pub fn exec_process(&self) -> io::Result<Option<oci_spec::runtime::Process>> {
        read(&self.dir.join("process.json"))
    }

    /// Written by rename.
    pub fn write_exec_process(&self, process: &oci_spec::runtime::Process) -> io::Result<()> {
        write(&self.dir.join("process.json"), process)
    }

    /// Ids of the execs that have a directory.
    pub fn execs(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.dir.join("exec")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Removes all that front and zygote wrote; `config.json` and `rootfs/` stay. Twice is as once.
    pub fn remove_records(&self) -> io::Result<()> {
        let missing_is_fine = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        for name in ["control.sock", "start.json", "start.tmp", "exit.json", "exit.tmp", "task.json", "task.tmp"] {
            missing_is_fine(fs::remove_file(self.dir.join(name)))?;
        }
        missing_is_fine(fs::remove_dir_all(self.dir.join("exec")))
    }

    /// `None` until the fork.
    pub fn start_record(&self) -> io::Result<Option<StartRecord>> {
        read(&self.dir.join("start.json"))
    }

    /// Written by rename.
    pub fn write_start(&self, record: &StartRecord) -> io::Result<()> {
        write(&self.dir.join("start.json"), record)
    }

    /// `None` while it runs.
    pub fn exit_record(&self) -> io::Result<Option<ExitRecord>> {
        read(&self.dir.join("exit.json"))
    }

    /// Written by rename.
    pub fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        write(&self.dir.join("exit.json"), record)
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(record).map_err(io::Error::other)?)?;
    drop(file);
    fs::rename(&temporary, path)
}
