//! Logging programs, as containerd's own shim starts them (`cmd/containerd-shim-runc-v2/process/io.go`): the container's
//! output comes over files 3 and 4, and by file 5 the program says that it reads. It ends when its input does.
//!
//! The container writes into the pipe itself, so neither it nor the program needs the front.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::{Named, OpenError};
use crate::front::orphan;
use samara_shim_client::output::{LogProgram, ReadyBy};

/// One that has not said that it reads by then never will.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// What is left to write is written within this after the end of the input; then it is asked to end, then made to.
const ENDS_WITHIN: Duration = Duration::from_secs(12);
/// Above the numbers that files have in the program.
const ASIDE: i32 = 16;

/// A running one.
#[derive(Debug)]
pub(crate) struct Logger {
    path: PathBuf,
    pidfd: OwnedFd,
    ready: OwnedFd,
    ready_by: ReadyBy,
    /// Ends when it does.
    reaper: tokio::task::JoinHandle<()>,
}

/// Ends of pipes that it reads from.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Logger {
    /// Starts the program; [`Self::until_ready`] says whether it reads.
    pub(super) fn start(program: &LogProgram, named: &Named) -> Result<(Self, Outputs), OpenError> {
        Self::try_start(program, named).map_err(OpenError::io("start logging program", &program.path))
    }

    fn try_start(program: &LogProgram, named: &Named) -> io::Result<(Self, Outputs)> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ((out, stdout), (err, stderr), (ready, write)) = (pipe()?, pipe()?, pipe()?);
        let pid = spawn(program, named, [&out, &err, &write])?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let reaped = pidfd.try_clone()?;
        let reaper = tokio::spawn(async move {
            // How it ended is its own business.
            let _ = orphan::until_end(reaped).await;
        });
        let logger = Self { path: program.path.clone(), pidfd, ready, ready_by: program.ready, reaper };
        Ok((logger, Outputs { stdout, stderr }))
    }

    /// Waits until it has said that it reads.
    pub(crate) async fn until_ready(&self) -> Result<(), OpenError> {
        self.hear().await.map_err(OpenError::io("wait for logging program", &self.path))
    }

    async fn hear(&self) -> io::Result<()> {
        let ready = self.ready.try_clone()?;
        rustix::io::ioctl_fionbio(&ready, true)?;
        let mut byte = [0];
        let mut ready = pipe::Receiver::from_owned_fd(ready)?;
        match (tokio::time::timeout(READY_WITHIN, ready.read(&mut byte)).await, self.ready_by) {
            (Err(_elapsed), _) => {
                // Ended at this moment: all the better.
                let _ = pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
                Err(io::Error::other("it does not say that it reads"))
            }
            (Ok(Err(error)), _) => Err(error),
            (Ok(Ok(0)), ReadyBy::Byte) => Err(io::Error::other("it ended, or closed its file 5 without a word")),
            (Ok(Ok(_)), ReadyBy::Byte | ReadyBy::Closing) => Ok(()),
        }
    }

    /// The container has ended: lets it write what it has read, and makes sure of its end.
    pub(crate) async fn outlast(mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            if tokio::time::timeout(ENDS_WITHIN, &mut self.reaper).await.is_ok() {
                return;
            }
            tracing::warn!(program = %self.path.display(), ?signal, "a logging program does not end");
            // It may just have: all the better.
            let _ = pidfd_send_signal(self.pidfd.as_fd(), signal);
        }
    }
}

/// Files 3, 4 and 5 are `files`; 0, 1 and 2 lead nowhere; all others are close-on-exec.
fn spawn(program: &LogProgram, named: &Named, files: [&OwnedFd; 3]) -> io::Result<Pid> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let path = text(program.path.as_os_str().as_bytes())?;
    let words = program.args.iter().flat_map(|(key, value)| [key, value]);
    let args = words.map(|word| text(word.as_bytes()));
    let args = [Ok(path.clone())].into_iter().chain(args).collect::<io::Result<Vec<_>>>()?;
    // Of an exec, its own: what containerd calls the process.
    let id = named.id.rsplit('/').next().unwrap_or_default();
    let env = [format!("CONTAINER_ID={id}"), format!("CONTAINER_NAMESPACE={}", named.namespace)];
    let env = env.iter().map(|pair| text(pair.as_bytes())).collect::<io::Result<Vec<_>>>()?;

    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut actions = PosixSpawnFileActions::init()?;
    let mut held = Vec::new();
    for (number, file) in [&null, &null, &null].into_iter().chain(files).enumerate() {
        // So that none of them is overwritten before it is copied.
        let aside = rustix::io::fcntl_dupfd_cloexec(file, ASIDE)?;
        actions.add_dup2(aside.as_raw_fd(), i32::try_from(number).unwrap_or_default())?;
        held.push(aside);
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK)?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    let pid = posix_spawn(path.as_c_str(), &actions, &attributes, &args, &env)?;
    Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::other("no pid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn named() -> Named {
        Named { id: "c1/e1".into(), title: "x".into(), namespace: "ns".into() }
    }

    /// Not a file of our own: one that was just written may be open for writing in a child that another test forks.
    fn shell(dir: &Path, script: &str, ready: ReadyBy) -> LogProgram {
        let args = [("-c".into(), script.into()), ("to".into(), dir.join("log").display().to_string())];
        LogProgram { path: "/bin/sh".into(), args: args.into(), ready }
    }

    #[tokio::test]
    async fn a_program_gets_both_outputs_its_arguments_and_two_variables() {
        let dir = tempfile::tempdir().expect("directory");
        let script = r#"exec 5>&-; { echo "$0 $CONTAINER_ID $CONTAINER_NAMESPACE"; cat <&3; cat <&4; } > "$1""#;
        let (logger, outputs) = Logger::start(&shell(dir.path(), script, ReadyBy::Closing), &named()).expect("started");
        logger.until_ready().await.expect("ready");
        rustix::io::write(&outputs.stderr, b"err\n").expect("written");
        rustix::io::write(&outputs.stdout, b"out\n").expect("written");
        drop(outputs);
        logger.outlast().await;
        let log = std::fs::read_to_string(dir.path().join("log")).expect("log");
        assert_eq!(log, "to e1 ns\nout\nerr\n");
    }

    #[tokio::test]
    async fn one_that_fails_before_it_reads_is_told_from_one_that_is_ready() {
        let dir = tempfile::tempdir().expect("directory");
        let ready = |script: &'static str, by| {
            let program = shell(dir.path(), script, by);
            async move { Logger::start(&program, &named()).expect("started").0.until_ready().await }
        };
        assert!(ready("exit 1", ReadyBy::Closing).await.is_ok(), "as containerd has it");
        let error = ready("exit 1", ReadyBy::Byte).await.expect_err("failed");
        assert!(error.to_string().starts_with("wait for logging program /"), "{error}");
        assert!(ready("printf x >&5; exec cat <&3", ReadyBy::Byte).await.is_ok());
        let missing = LogProgram { path: "/nowhere".into(), args: vec![], ready: ReadyBy::Byte };
        let error = Logger::start(&missing, &named()).expect_err("missing");
        assert_eq!(error.to_string(), "start logging program /nowhere");
    }
}
