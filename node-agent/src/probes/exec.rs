//! Runs a command in a container and takes its output, for probes and hooks.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::{Process, Spec};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use samara_shim_client::{ExecTask, Shim, ShimError, Standard};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::shims::Task;

/// Of the output that is kept; the rest is read and forgotten, so that the command never waits.
const MOST_OUTPUT: usize = 10 * 1024;
/// After SIGKILL.
const DIES_WITHIN: Duration = Duration::from_secs(5);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// `None`: it took too long and was killed.
    pub code: Option<u32>,
    /// Start of stdout and stderr together.
    pub output: String,
}

/// A command that could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("read the container's spec {path}")]
    Spec {
        path: PathBuf,
        #[source]
        source: oci_spec::OciSpecError,
    },
    #[error("make fifo {path}")]
    Fifo {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Shim(#[from] ShimError),
}

/// Runs it as the container's own process would run: same user, environment and directory.
pub async fn execute(task: &Task, command: &[String], timeout: Option<Duration>) -> Result<Executed, ExecError> {
    let exec_id = hex::encode(rand::random::<[u8; 8]>());
    let process = process(task, command)?;
    let (fifo, mut output) = Output::open(task.bundle().dir().join(format!("out-{exec_id}")))?;
    let shim = task.shim().await?;
    let path = fifo.0.display().to_string();
    let standard = Standard { stdin: String::new(), stdout: path.clone(), stderr: path, terminal: false };
    let exec = ExecTask { id: task.id().to_owned(), exec_id, process, standard };
    let code = tokio::select! {
        code = run(&shim, &exec, timeout) => code,
        never = output.drain() => match never {},
    };
    let deleted = shim.delete(task.id(), &exec.exec_id).await;
    let code = code?;
    deleted?;
    Ok(Executed { code, output: output.rest() })
}

/// The file of a fifo, removed in the end.
struct Fifo(PathBuf);

impl Drop for Fifo {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// What comes out of a command.
struct Output {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
}

impl Output {
    fn open(path: PathBuf) -> Result<(Fifo, Self), ExecError> {
        let error = |source: io::Error| ExecError::Fifo { path: path.clone(), source };
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(|errno| error(errno.into()))?;
        let fifo = Fifo(path.clone());
        // Also as a writer, so that its end is never seen before we say so.
        let pipe = pipe::OpenOptions::new().read_write(true).open_receiver(&path).map_err(error)?;
        Ok((fifo, Self { pipe, kept: Vec::new() }))
    }

    async fn drain(&mut self) -> std::convert::Infallible {
        let mut buffer = [0; 1024];
        loop {
            match self.pipe.read(&mut buffer).await {
                Ok(length) => self.keep(&buffer[..length]),
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// What the pipe still holds, when nobody writes any more: at most its 64 KiB.
    fn rest(mut self) -> String {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = self.pipe.try_read(&mut buffer) {
            self.keep(&buffer[..length]);
        }
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MOST_OUTPUT - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

async fn run(shim: &Shim, exec: &ExecTask, timeout: Option<Duration>) -> Result<Option<u32>, ShimError> {
    shim.exec(exec).await?;
    let end = async {
        shim.start(&exec.id, &exec.exec_id).await?;
        shim.wait(&exec.id, &exec.exec_id).await
    };
    let Some(timeout) = timeout else { return end.await.map(|exit| Some(exit.code)) };
    if let Ok(exit) = tokio::time::timeout(timeout, end).await {
        return exit.map(|exit| Some(exit.code));
    }
    shim.kill(&exec.id, &exec.exec_id, 9, false).await?;
    drop(tokio::time::timeout(DIES_WITHIN, shim.wait(&exec.id, &exec.exec_id)).await);
    Ok(None)
}

fn process(task: &Task, command: &[String]) -> Result<Process, ExecError> {
    let path = task.bundle().config();
    let spec = Spec::load(&path).map_err(|source| ExecError::Spec { path, source })?;
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command.to_vec())).set_terminal(Some(false));
    Ok(process)
}
