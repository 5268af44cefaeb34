//! One process, first or exec: its phase, and what the front holds of it.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{OnceCell, mpsc, watch};

use super::error::TaskError;
use super::events::{Event, Events};
use super::fifo;
use super::phase::{IllegalStep, Phase, Step};
use super::signals::{Meaning, meaning};
use crate::container::control::{self, Control, ControlError, Hello, MOST_LISTENING, State, Stopping};
use samara_shim_client::bundle::{Bundle, ExitRecord, TaskRecord};
use samara_shim_client::cgroup::Cgroup;

/// A process of a container.
pub(crate) struct Process {
    /// Where its records are: the bundle, or the exec's directory in it.
    pub(crate) bundle: Bundle,
    /// What was asked for.
    pub(crate) record: TaskRecord,
    pub(crate) cgroup: Option<Cgroup>,
    events: Events,
    phase: watch::Sender<Phase>,
    held: Mutex<Held>,
    control: OnceCell<Arc<Control>>,
    /// Where its guest listens or listened.
    listening: watch::Sender<Vec<SocketAddr>>,
}

/// What keeps it ours.
#[derive(Debug, Default)]
struct Held {
    pidfd: Option<OwnedFd>,
    /// Read when the zygote is not there to do it.
    report: Option<OwnedFd>,
    terminal: Option<Arc<OwnedFd>>,
    /// The log that the front writes for a terminal.
    log: Option<SharedLog>,
    fifos: Vec<OwnedFd>,
}

/// A log file that rotation replaces under its writer.
pub(crate) type SharedLog = Arc<Mutex<File>>;

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("record", &self.record)
            .field("phase", &*self.phase.borrow())
            .finish_non_exhaustive()
    }
}

impl Process {
    pub(crate) fn new(
        bundle: Bundle,
        record: TaskRecord,
        cgroup: Option<Cgroup>,
        events: Events,
        phase: Phase,
    ) -> Self {
        let (phase, _) = watch::channel(phase);
        let (listening, _) = watch::channel(Vec::new());
        Self { bundle, record, cgroup, events, phase, held: Mutex::default(), control: OnceCell::new(), listening }
    }

    /// Container id, and exec id behind a slash.
    pub(crate) fn name(&self) -> String {
        let record = &self.record;
        if record.exec_id.is_empty() { record.id.clone() } else { format!("{}/{}", record.id, record.exec_id) }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Takes a step, or says why not. Two callers cannot both take the same one.
    pub(crate) fn step(&self, step: Step) -> Result<Phase, IllegalStep> {
        let mut outcome = None;
        self.phase.send_if_modified(|phase| {
            let next = phase.after(step.clone());
            let changed = next.is_ok();
            if let Ok(next) = &next {
                *phase = next.clone();
            }
            outcome = Some(next);
            changed
        });
        // The closure always runs.
        outcome.unwrap_or(Err(IllegalStep { step: "change", phase: "unknown" }))
    }

    /// Waits for a phase that `wanted` accepts.
    pub(crate) async fn reached(&self, wanted: impl Fn(&Phase) -> bool) -> Phase {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(|phase| wanted(phase)).await {
            Ok(phase) => phase.clone(),
            // We hold the sender.
            Err(_closed) => self.phase(),
        }
    }

    /// How it ended, when it has.
    pub(crate) async fn ended(&self) -> Result<ExitRecord, TaskError> {
        let phase = self.reached(|phase| matches!(phase, Phase::Stopped(_) | Phase::Failed)).await;
        phase.exit().cloned().ok_or_else(|| TaskError::NoTask(self.name()))
    }

    /// It was forked.
    pub(crate) fn forked(&self, pidfd: OwnedFd, report: OwnedFd) {
        let mut held = self.held();
        (held.pidfd, held.report) = (Some(pidfd), Some(report));
    }

    /// It was found again by a later front.
    pub(crate) fn found(&self, pidfd: OwnedFd) {
        self.held().pidfd = Some(pidfd);
    }

    /// Fifos that must not be closed before they are read.
    pub(crate) fn keep(&self, fifos: Vec<OwnedFd>) {
        if self.phase().exit().is_some() {
            tokio::spawn(fifo::linger(fifos));
        } else {
            self.held().fifos = fifos;
        }
    }

    /// The front's end of its terminal.
    pub(crate) fn set_terminal(&self, terminal: Arc<OwnedFd>) {
        self.held().terminal = Some(terminal);
    }

    /// The log of its terminal.
    pub(crate) fn set_log(&self, log: SharedLog) {
        self.held().log = Some(log);
    }

    /// Writes to another file from now on.
    pub(crate) async fn replace_log(&self, stream: control::Stream, file: File) -> Result<(), TaskError> {
        let log = self.held().log.clone();
        match log {
            Some(log) => *log.lock().unwrap_or_else(PoisonError::into_inner) = file,
            None => in_time(self.control().await?.output(stream, file.as_fd())).await?,
        }
        Ok(())
    }

    pub(crate) fn terminal(&self) -> Option<Arc<OwnedFd>> {
        self.held().terminal.clone()
    }

    /// A copy of its pidfd.
    pub(crate) fn pidfd(&self) -> Option<OwnedFd> {
        self.held().pidfd.as_ref().and_then(|fd| fd.try_clone().ok())
    }

    pub(crate) fn report(&self) -> Option<crate::plan::Report> {
        self.held().report.as_ref().map(crate::plan::Report::read)
    }

    /// It ended; `exit.json` is written. Twice is as once.
    pub(crate) fn exited(&self, record: ExitRecord) {
        let oom = record.oom_killed;
        let first = self.step(Step::Exit(record.clone())).is_ok();
        if !first {
            return;
        }
        let held = std::mem::take(&mut *self.held());
        tokio::spawn(fifo::linger(held.fifos));
        tracing::info!(process = self.name(), code = record.exit_code, oom, message = record.message, "ended");
        let (id, exec_id) = (self.record.id.clone(), self.record.exec_id.clone());
        if oom && exec_id.is_empty() {
            self.events.publish(Event::Oom { id: id.clone() });
        }
        self.events.publish(Event::Exit { id, exec_id, record });
    }

    /// The connection to its control thread, made at first use.
    pub(crate) async fn control(&self) -> Result<Arc<Control>, TaskError> {
        let connect = || async {
            let (control, hello, events) = in_time(control::connect(self.bundle.dir())).await?;
            for warning in &hello.warnings {
                tracing::warn!(process = self.name(), warning, "set up with a difference");
            }
            self.hear(&hello, events);
            Ok::<_, TaskError>(Arc::new(control))
        };
        self.control.get_or_try_init(connect).await.cloned()
    }

    /// A connection that was made while it was adopted.
    pub(crate) fn connected(&self, control: Control, hello: &Hello, events: mpsc::UnboundedReceiver<control::Event>) {
        if self.control.set(Arc::new(control)).is_ok() {
            self.hear(hello, events);
        }
    }

    fn hear(&self, hello: &Hello, mut events: mpsc::UnboundedReceiver<control::Event>) {
        let name = self.name();
        let listening = self.listening.clone();
        hello.listening.iter().for_each(|address| note(&listening, *address));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                tracing::debug!(process = name, ?event, "container");
                if let control::Event::Listening { address } = event {
                    note(&listening, address);
                }
            }
        });
    }

    /// Waits until its guest listens. An error as soon as it has ended.
    pub(crate) async fn listening(&self) -> Result<Vec<SocketAddr>, TaskError> {
        let mut listening = self.listening.subscribe();
        let listens = async {
            // Before that there is nothing to hear, and who is frozen cannot answer.
            self.reached(|phase| matches!(phase, Phase::Running { .. })).await;
            match self.control().await {
                Ok(_) => {}
                // On its way out; the other branch will see it.
                Err(_) if self.is_gone() => std::future::pending().await,
                Err(error) => return Err(error),
            }
            let some = listening.wait_for(|addresses| !addresses.is_empty()).await;
            // We hold the sender, so it does not close.
            Ok(some.map(|addresses| addresses.clone()).unwrap_or_default())
        };
        tokio::select! {
            biased;
            ended = self.ended() => Err(ended.err().unwrap_or(TaskError::ListensNoMore)),
            listens = listens => listens,
        }
    }

    /// Lets its guest run, once it is created.
    pub(crate) async fn start(&self) -> Result<i32, TaskError> {
        self.reached(|phase| !matches!(phase, Phase::Creating)).await;
        if matches!(self.phase(), Phase::Failed) {
            return Err(TaskError::NoTask(self.name()));
        }
        let phase = self.step(Step::Start)?;
        let pid = phase.pid().unwrap_or(0);
        // Told before it can end, so that nobody hears of the end first.
        let (id, exec_id) = (self.record.id.clone(), self.record.exec_id.clone());
        self.events.publish(Event::Start { id, exec_id, pid });
        let control = self.control().await?;
        match in_time(control.start()).await {
            // A short guest ends before the answer is written.
            Ok(State::Ready | State::Running | State::Draining) | Err(ControlError::Closed) => {}
            Err(error) => return Err(error.into()),
        }
        tracing::debug!(process = self.name(), pid, "started");
        Ok(pid)
    }

    /// What `Kill` does to this process.
    pub(crate) async fn signal(&self, signal: u32) -> Result<(), TaskError> {
        let meaning = meaning(signal)?;
        self.reached(|phase| !matches!(phase, Phase::Creating)).await;
        match self.phase() {
            Phase::Stopped(_) => return Err(TaskError::Finished),
            Phase::Failed => return Err(TaskError::NoTask(self.name())),
            phase @ (Phase::Added | Phase::Creating) => {
                return Err(IllegalStep { step: "signal", phase: phase.name() }.into());
            }
            Phase::Created { .. } | Phase::Running { .. } | Phase::Paused { .. } => {}
        }
        match meaning {
            Meaning::Probe | Meaning::Ignore => Ok(()),
            Meaning::Kernel(libc::SIGKILL) => self.kill(),
            Meaning::Kernel(number) => self.send(number),
            Meaning::Stop(number) => self.stop(number).await,
        }
    }

    /// SIGKILL, if it lives.
    pub(crate) fn kill(&self) -> Result<(), TaskError> {
        match self.send(libc::SIGKILL) {
            Ok(()) | Err(TaskError::Finished) => {}
            Err(error) => return Err(error),
        }
        if let (Phase::Paused { .. }, Some(cgroup)) = (self.phase(), &self.cgroup) {
            // In v1 even this signal waits until it may run.
            cgroup.freeze(false)?;
        }
        Ok(())
    }

    /// Lets its guest read end of file.
    pub(crate) async fn close_stdin(&self) -> Result<(), TaskError> {
        let control = self.control().await?;
        Ok(in_time(control.close_stdin()).await?)
    }

    async fn stop(&self, signal: u8) -> Result<(), TaskError> {
        let grace = Duration::from_secs(self.record.grace_period_seconds.into());
        let control = match self.control().await {
            Ok(control) => control,
            // It ended between the question and now.
            Err(_) if self.is_gone() => return Err(TaskError::Finished),
            Err(error) => return Err(error),
        };
        let stopping: Stopping = in_time(control.stop(signal, grace)).await?;
        tracing::debug!(process = self.name(), ?stopping, "asked to stop");
        Ok(())
    }

    fn send(&self, number: i32) -> Result<(), TaskError> {
        let held = self.held();
        let Some(pidfd) = &held.pidfd else {
            return Err(TaskError::Finished);
        };
        let signal = Signal::from_named_raw(number).unwrap_or(Signal::KILL);
        match rustix::process::pidfd_send_signal(pidfd.as_fd(), signal) {
            Err(rustix::io::Errno::SRCH) => Err(TaskError::Finished),
            Err(errno) => Err(TaskError::Io { operation: "signal", path: self.name().into(), source: errno.into() }),
            Ok(()) => Ok(()),
        }
    }

    fn is_gone(&self) -> bool {
        let held = self.held();
        let Some(pidfd) = &held.pidfd else { return true };
        let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&none)).is_ok_and(|ready| ready > 0)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a container says is what a guest says: more than it may say is not kept.
fn note(listening: &watch::Sender<Vec<SocketAddr>>, address: SocketAddr) {
    listening.send_if_modified(|addresses| {
        let new = addresses.len() < MOST_LISTENING && !addresses.contains(&address);
        if new {
            addresses.push(address);
        }
        new
    });
}

/// A control thread answers at once, unless its container is paused or the host is out of its depth.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

async fn in_time<T>(call: impl Future<Output = Result<T, ControlError>>) -> Result<T, ControlError> {
    match tokio::time::timeout(ANSWERS_WITHIN, call).await {
        Ok(done) => done,
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
