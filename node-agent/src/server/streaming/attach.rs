//! A container's own streams: its input through its fifo, its output as it comes into its log.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Container, Pod};
use samara_core::logs::{LogOptions, Stream};

use super::fifo;
use super::outcome::Outcome;
use super::protocol::{Protocol, Size};
use super::query::Wanted;
use super::session::{Ended, Pieces, Session, Streams, Subject};
use crate::server::logs;
use crate::server::{Parts, Process, Workloads};

/// Between looks at whether it still runs, when the front cannot be asked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A container that a client looks at and types to.
pub(super) struct Attach {
    workloads: Arc<dyn Workloads>,
    uid: String,
    container: String,
    process: Process,
    wanted: Wanted,
    /// `stdinOnce`: its input ends with this client's.
    once: bool,
}

impl Attach {
    pub(super) fn new(parts: &Parts, pod: &Pod, container: &str, process: Process, wanted: Wanted) -> Self {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let spec = spec(pod, container);
        let stdin = spec.is_some_and(|spec| spec.stdin == Some(true));
        Self {
            workloads: parts.workloads.clone(),
            uid,
            container: container.to_owned(),
            wanted: Wanted { stdin: wanted.stdin && stdin, ..wanted },
            once: spec.is_some_and(|spec| spec.stdin_once == Some(true)),
            process,
        }
    }

    async fn streams(&self) -> std::io::Result<Streams> {
        let stdin = if self.wanted.stdin { fifo::input(&self.process.bundle.dir().join("stdin"))? } else { None };
        Ok(Streams {
            stdin,
            stdout: self.follow(self.wanted.stdout, Stream::Stdout).await?,
            stderr: self.follow(self.wanted.stderr, Stream::Stderr).await?,
        })
    }

    async fn follow(&self, wanted: bool, stream: Stream) -> std::io::Result<Option<Pieces>> {
        if !wanted {
            return Ok(None);
        }
        let options = LogOptions { follow: true, tail_lines: Some(0), stream: Some(stream), ..LogOptions::default() };
        let (workloads, uid, container, attempt) =
            (self.workloads.clone(), self.uid.clone(), self.container.clone(), self.process.attempt);
        let running = move || runs(&*workloads, &uid, &container, attempt);
        Ok(Some(logs::read(&self.process.log, options, Box::new(running)).await?.boxed()))
    }
}

fn runs(workloads: &dyn Workloads, uid: &str, container: &str, attempt: u32) -> bool {
    workloads.process(uid, container).is_some_and(|process| process.attempt == attempt)
}

fn spec<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// Until the container ends or the client goes.
pub(super) async fn run(socket: WebSocket, protocol: Protocol, attach: Attach) {
    let mut session = Session::new(socket, protocol);
    session.greet(attach.wanted).await;
    let outcome = match attach.streams().await {
        Ok(streams) => match session.pump(&attach, streams).await {
            Ended::Process(outcome) => outcome,
            Ended::Client => return,
        },
        Err(error) => Outcome::Failed { doing: "attaching to", why: error.to_string() },
    };
    session.close(&outcome).await;
}

impl Subject for Attach {
    async fn resize(&self, size: Size) {
        if let Err(error) =
            self.process.shim.resize_pty(&self.process.id, "", size.width.into(), size.height.into()).await
        {
            tracing::debug!(container = self.process.id, %error, "resizing a terminal");
        }
    }

    async fn end_input(&self) {
        if !self.once {
            return;
        }
        if let Err(error) = self.process.shim.close_io(&self.process.id, "").await {
            tracing::debug!(container = self.process.id, %error, "ending a container's input");
        }
    }

    /// Its exit code is in the pod's status; a client that watched it end has succeeded.
    async fn ended(&self) -> Outcome {
        while self.process.shim.wait(&self.process.id, "").await.is_err()
            && runs(&*self.workloads, &self.uid, &self.container, self.process.attempt)
        {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Outcome::Exited(0)
    }
}
