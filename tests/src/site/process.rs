//! A process is its pid *and* its start time: that pair is never reused.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::namespace::Namespace;

/// A process, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
}

impl ProcessId {
    /// `None` if there is no such process, or only its zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = parse_stat(&stat)?;
        (state != 'Z').then_some(Self { pid, start_time })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// Whether it runs still.
    pub fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends SIGKILL to exactly this process and waits for its end. One that is gone already is as good.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if !self.wait_for_end(Duration::from_secs(10))? {
            bail!("process {} does not end on SIGKILL", self.pid);
        }
        Ok(())
    }

    /// Sends a signal to exactly this process.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let Some(fd) = self.pidfd()? else { return Ok(()) };
        match rustix::process::pidfd_send_signal(&fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal process {}", self.pid)),
        }
    }

    /// `true` if it ended within the limit.
    pub fn wait_for_end(self, limit: Duration) -> Result<bool> {
        let Some(fd) = self.pidfd()? else { return Ok(true) };
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let limit = Timespec { tv_sec: i64::try_from(limit.as_secs())?, tv_nsec: i64::from(limit.subsec_nanos()) };
        Ok(rustix::event::poll(&mut fds, Some(&limit)).context("wait for a process")? > 0)
    }

    /// The start time is compared after the fd is open, so the fd is of this process and no successor.
    fn pidfd(self) -> Result<Option<rustix::fd::OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(self.is_running().then_some(fd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("open process {}", self.pid)),
        }
    }
}

/// State and start time. The name (field 2) may hold spaces and brackets, so fields are counted from the last bracket.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    file: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
    cgroup: Option<PathBuf>,
}

impl Program {
    /// `name` is for messages; output is appended to `log`.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), file: file.into(), args: Vec::new(), env: Vec::new(), log: log.into(), cgroup: None }
    }

    /// Appends one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[OsString] {
        &self.args
    }

    /// Starts it as a member of this cgroup directory, which must exist.
    #[must_use]
    pub fn cgroup(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cgroup = Some(dir.into());
        self
    }

    fn command(&self) -> Result<Command> {
        if let Some(dir) = self.log.parent() {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        let mut command = match &self.cgroup {
            // The shell joins the cgroup and becomes the program: same pid, and no code of ours between fork and exec.
            Some(dir) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(dir.join("cgroup.procs")).arg(&self.file);
                shell
            }
            None => Command::new(&self.file),
        };
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        // A group of its own: Ctrl-C on the terminal is for us alone, and we end the others in order.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

/// A started program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    id: ProcessId,
    log: PathBuf,
}

impl Process {
    /// Starts it in a network namespace.
    pub fn start(namespace: &Namespace, program: Program) -> Result<Self> {
        let mut command = program.command()?;
        let child =
            namespace.run(move || command.spawn())?.with_context(|| format!("start {}", program.file.display()))?;
        let pid = i32::try_from(child.id())?;
        let id = ProcessId::of(pid).unwrap_or(ProcessId { pid, start_time: 0 });
        Ok(Self { name: program.name, child, id, log: program.log })
    }

    /// Which process it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// File with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("look at {}", self.name))? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended ({status}); the end of {}:\n{}", self.name, self.log.display(), self.last_lines(15))
            }
        }
    }

    /// SIGKILL, and reaps it.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().with_context(|| format!("reap {}", self.name))
    }

    /// SIGTERM, and reaps it within the limit.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.id.signal(Signal::TERM)?;
        if !self.id.wait_for_end(limit)? {
            bail!(
                "{} did not end within {limit:?} of SIGTERM; the end of its log:\n{}",
                self.name,
                self.last_lines(15)
            );
        }
        self.child.wait().with_context(|| format!("reap {}", self.name))
    }

    fn last_lines(&self, count: usize) -> String {
        last_lines(&self.log, count).unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
    }
}

/// The last lines of a file, indented.
pub fn last_lines(file: &Path, count: usize) -> io::Result<String> {
    let mut lines = VecDeque::with_capacity(count);
    for line in BufReader::new(File::open(file)?).split(b'\n') {
        if lines.len() == count {
            lines.pop_front();
        }
        lines.push_back(format!("    {}", String::from_utf8_lossy(&line?)));
    }
    Ok(Vec::from(lines).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_hostile_process_name() {
        let stat = "7 (a) R 1 (x) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 9 9";
        assert_eq!(parse_stat(stat), Some(('S', 424_242)));
    }

    #[test]
    fn a_process_is_not_its_pids_next_owner() {
        let own = ProcessId::own();
        assert!(own.is_running());
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_running());
    }

    #[test]
    fn killing_one_that_is_gone_is_no_error() {
        let mut child = Command::new("/bin/true").spawn().expect("spawn");
        let id = ProcessId { pid: i32::try_from(child.id()).expect("pid"), start_time: 1 };
        child.wait().expect("wait");
        id.kill().expect("gone is as good as killed");
    }
}
