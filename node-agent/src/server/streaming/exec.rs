//! A further process in a running container, for as long as its client stays.

use std::path::PathBuf;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use futures::StreamExt as _;
use oci_spec::runtime::{Process as OciProcess, Spec};
use samara_shim_client::{ExecTask, Shim, ShimError, Standard};
use tokio::net::unix::pipe;
use tokio_util::io::ReaderStream;

use super::fifo::{self, Fifos};
use super::outcome::Outcome;
use super::protocol::{Protocol, Size};
use super::query::Wanted;
use super::session::{Ended, Pieces, Session, Streams, Subject};
use crate::server::Process;

/// After SIGKILL.
const DIES_WITHIN: Duration = Duration::from_secs(5);
/// Read from a fifo at once.
const CHUNK: usize = 32 << 10;

/// What to run, and where.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) process: Process,
    pub(super) command: Vec<String>,
    pub(super) wanted: Wanted,
    /// For the directories of sessions.
    pub(super) dir: PathBuf,
}

/// It does not run.
#[derive(Debug, thiserror::Error)]
enum ExecError {
    #[error("making the fifos of its streams: {0}")]
    Fifos(#[from] std::io::Error),
    #[error("reading the container's spec {}: {source}", path.display())]
    Spec { path: PathBuf, source: oci_spec::OciSpecError },
    #[error("{}", .0.message())]
    Shim(#[from] ShimError),
}

/// Runs it to its end, or until the client goes.
pub(super) async fn run(socket: WebSocket, protocol: Protocol, exec: Exec) {
    let mut session = Session::new(socket, protocol);
    session.greet(exec.wanted).await;
    let container = exec.process.id.clone();
    tracing::info!(container, command = ?exec.command, "exec");
    let outcome = match begin(&exec).await {
        Ok((running, streams)) => {
            let ended = session.pump(&running, streams).await;
            running.finish(&ended).await;
            match ended {
                Ended::Process(outcome) => outcome,
                Ended::Client => return,
            }
        }
        Err(error) => {
            tracing::info!(container, command = ?exec.command, %error, "exec failed");
            Outcome::Failed { doing: "executing command in", why: error.to_string() }
        }
    };
    session.close(&outcome).await;
}

/// A process of ours in the container.
struct Running {
    shim: Shim,
    id: String,
    exec_id: String,
    _fifos: Fifos,
}

async fn begin(exec: &Exec) -> Result<(Running, Streams), ExecError> {
    let Exec { process, wanted, .. } = exec;
    let exec_id = hex::encode(rand::random::<[u8; 16]>());
    let fifos = Fifos::make(exec.dir.join(&exec_id))?;
    let add = |wanted: bool, name| if wanted { fifos.add(name) } else { Ok(String::new()) };
    let standard = Standard {
        stdin: add(wanted.stdin, "stdin")?,
        // A terminal that nobody reads would hold its process up.
        stdout: add(wanted.stdout || wanted.tty, "stdout")?,
        stderr: add(wanted.stderr, "stderr")?,
        terminal: wanted.tty,
    };
    let hold = |path: &str| if path.is_empty() { Ok(None) } else { fifo::Output::hold(path).map(Some) };
    let (stdout, stderr) = (hold(&standard.stdout)?, hold(&standard.stderr)?);
    let task = ExecTask { id: process.id.clone(), exec_id: exec_id.clone(), process: further_process(exec)?, standard };
    let running = Running { shim: process.shim.clone(), id: process.id.clone(), exec_id, _fifos: fifos };
    running.shim.exec(&task).await?;
    if let Err(error) = running.shim.start(&running.id, &running.exec_id).await {
        running.delete().await;
        return Err(error.into());
    }
    let streams = || -> std::io::Result<Streams> {
        let stdin = if wanted.stdin { fifo::input(task.standard.stdin.as_ref())? } else { None };
        Ok(Streams { stdin, stdout: pieces(stdout)?, stderr: pieces(stderr)? })
    };
    match streams() {
        Ok(streams) => Ok((running, streams)),
        Err(error) => {
            running.finish(&Ended::Client).await;
            Err(error.into())
        }
    }
}

fn pieces(output: Option<fifo::Output>) -> std::io::Result<Option<Pieces>> {
    let reader = output.map(fifo::Output::reader).transpose()?;
    Ok(reader.map(|reader: pipe::Receiver| ReaderStream::with_capacity(reader, CHUNK).boxed()))
}

/// As the container's own process: same user, environment and directory.
fn further_process(exec: &Exec) -> Result<OciProcess, ExecError> {
    let path = exec.process.bundle.config();
    let spec = Spec::load(&path).map_err(|source| ExecError::Spec { path, source })?;
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(exec.command.clone())).set_terminal(Some(exec.wanted.tty));
    if exec.wanted.tty {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|variable| variable.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        process.set_env(Some(env));
    }
    Ok(process)
}

impl Running {
    /// Whatever is left of it goes.
    async fn finish(&self, ended: &Ended) {
        if *ended == Ended::Client {
            tracing::debug!(container = self.id, "the client of an exec is gone: the process is killed");
            if let Err(error) = self.shim.kill(&self.id, &self.exec_id, 9, false).await {
                tracing::debug!(container = self.id, %error, "an exec that ended by itself");
            }
            drop(tokio::time::timeout(DIES_WITHIN, self.shim.wait(&self.id, &self.exec_id)).await);
        }
        self.delete().await;
    }

    async fn delete(&self) {
        match self.shim.delete(&self.id, &self.exec_id).await {
            // With its container.
            Ok(_) | Err(ShimError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(container = self.id, %error, "removing an exec"),
        }
    }
}

impl Subject for Running {
    async fn resize(&self, size: Size) {
        if let Err(error) = self.shim.resize_pty(&self.id, &self.exec_id, size.width.into(), size.height.into()).await {
            tracing::debug!(container = self.id, %error, "resizing a terminal");
        }
    }

    async fn end_input(&self) {
        if let Err(error) = self.shim.close_io(&self.id, &self.exec_id).await {
            tracing::debug!(container = self.id, %error, "ending the input of an exec");
        }
    }

    async fn ended(&self) -> Outcome {
        match self.shim.wait(&self.id, &self.exec_id).await {
            Ok(exit) => Outcome::Exited(exit.code),
            Err(error) => Outcome::Failed { doing: "executing command in", why: error.message().to_owned() },
        }
    }
}
