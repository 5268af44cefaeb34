//! One process, first or exec: its phase, and what the front holds of it.

use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;

use super::error::TaskError;
use super::events::{Event, Events};
use super::fifo;
use super::link::{Heard, Link, in_time};
use super::open::Logger;
use super::phase::{IllegalStep, Phase, Step};
use super::signals::{Meaning, meaning};
use super::terminal;
use crate::container::control::{self, Command, Connected, Control, ControlError, MOST_LISTENING, State};
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
    link: Link,
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
    loggers: Vec<Logger>,
    /// Streams that may still be written to a file which is not their log any more.
    astray: Vec<control::Stream>,
}

/// After a connection is lost: what has closed its files is reaped within this, and who lives is not asked more often.
const LOST_FOR: Duration = Duration::from_secs(1);

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
        Self { bundle, record, cgroup, events, phase, held: Mutex::default(), link: Link::default(), listening }
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

    /// It was found again by a later front. Where it writes to only its front knew.
    pub(crate) fn found(&self, pidfd: OwnedFd) {
        let mut held = self.held();
        held.pidfd = Some(pidfd);
        held.astray = vec![control::Stream::Stdout, control::Stream::Stderr, control::Stream::Both];
    }

    /// Fifos that must not be closed before they are read, and programs that read.
    pub(crate) fn keep(&self, fifos: Vec<OwnedFd>, loggers: Vec<Logger>) {
        if self.phase().exit().is_some() {
            outlast(fifos, loggers);
        } else {
            let mut held = self.held();
            (held.fifos, held.loggers) = (fifos, loggers);
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

    /// Whether the stream may be written to another file than its log.
    pub(crate) fn is_astray(&self, stream: control::Stream) -> bool {
        self.held().astray.contains(&stream)
    }

    /// The file under the log's name is not, or will not be, the one that the stream is written to.
    pub(crate) fn goes_astray(&self, stream: control::Stream) {
        let mut held = self.held();
        if !held.astray.contains(&stream) {
            held.astray.push(stream);
        }
    }

    /// Writes to another file from now on.
    pub(crate) async fn replace_log(&self, stream: control::Stream, file: File) -> Result<(), TaskError> {
        let log = self.held().log.clone();
        match log {
            Some(log) => *log.lock().unwrap_or_else(PoisonError::into_inner) = file,
            // The front writes it, and opens it anew when it takes the terminal over.
            None if self.record.terminal => {}
            None => drop(self.command(Command::Output { stream }, &[file.as_fd()]).await?),
        }
        self.held().astray.retain(|other| *other != stream);
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
        outlast(held.fifos, held.loggers);
        tracing::info!(process = self.name(), code = record.exit_code, oom, message = record.message, "ended");
        let (id, exec_id) = (self.record.id.clone(), self.record.exec_id.clone());
        if oom && exec_id.is_empty() {
            self.events.publish(Event::Oom { id: id.clone() });
        }
        self.events.publish(Event::Exit { id, exec_id, record });
    }

    /// The connection to its control thread.
    async fn control(&self) -> Result<Arc<Control>, ControlError> {
        self.link.open(&self.bundle, |heard| self.hear(heard)).await
    }

    /// Has a command carried out; over another connection, if the first is lost and the process is not.
    async fn command(&self, command: Command, files: &[BorrowedFd<'_>]) -> Result<State, ControlError> {
        let control = self.control().await?;
        match in_time(control.command(command, files)).await {
            Err(ControlError::Closed) if !self.is_gone() => {}
            done => return done,
        }
        match self.control().await {
            Ok(control) => in_time(control.command(command, files)).await,
            // It is ending: its sockets are closed before anybody can see it.
            Err(ControlError::Connect(_)) => Err(ControlError::Closed),
            Err(error) => Err(error),
        }
    }

    /// It was held, and can answer again: one that was found so has its terminal still to be taken over.
    pub(crate) fn went_on(self: &Arc<Self>) {
        if self.record.terminal && self.terminal().is_none() {
            let process = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = process.control().await {
                    tracing::warn!(process = process.name(), error = super::error::chain(&error), "terminal");
                }
            });
        }
    }

    /// A connection that was made while it was adopted.
    pub(crate) fn connected(&self, connected: Connected) {
        let Connected { control, hello, events, terminal } = connected;
        self.link.set(control);
        self.hear(Heard { hello, events, terminal });
    }

    fn hear(&self, Heard { hello, mut events, terminal }: Heard) {
        for warning in &hello.warnings {
            tracing::warn!(process = self.name(), warning, "set up with a difference");
        }
        if let Some(master) = terminal
            && self.record.terminal
            && self.terminal().is_none()
        {
            // Another front made it, and is gone.
            if let Err(error) = terminal::take_over(self, master) {
                tracing::warn!(process = self.name(), error = super::error::chain(&error), "terminal");
            }
        }
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
            loop {
                let control = match self.control().await {
                    Ok(control) => control,
                    // On its way out; the other branch will see it.
                    Err(_) if self.is_gone() => std::future::pending().await,
                    Err(error) => return Err(error.into()),
                };
                tokio::select! {
                    // We hold the sender, so it does not close.
                    _ = listening.wait_for(|addresses| !addresses.is_empty()) => {}
                    () = control.closed() => {}
                }
                let addresses = listening.borrow().clone();
                if !addresses.is_empty() {
                    return Ok(addresses);
                }
                tokio::time::sleep(LOST_FOR).await;
            }
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
        match self.command(Command::Start, &[]).await {
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
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        let is_held = match self.phase() {
            Phase::Paused { .. } => true,
            // Somebody else froze its cgroup before it came to be.
            Phase::Creating => cgroup.is_frozen()?,
            Phase::Added | Phase::Created { .. } | Phase::Running { .. } | Phase::Stopped(_) | Phase::Failed => false,
        };
        if is_held {
            // In v1 even this signal waits until it may run.
            cgroup.freeze(false)?;
        }
        Ok(())
    }

    /// Lets its guest have so many bytes of memory from now on. A paused one is told when it goes on.
    pub(crate) async fn limit_memory(self: &Arc<Self>, limit: Option<u64>) -> Result<(), TaskError> {
        let command = Command::Memory { limit };
        match self.phase() {
            Phase::Created { .. } | Phase::Running { .. } => {}
            Phase::Paused { .. } => {
                let paused = Arc::clone(self);
                tokio::spawn(async move {
                    paused.reached(|phase| !matches!(phase, Phase::Paused { .. })).await;
                    match paused.command(command, &[]).await {
                        Ok(_) => tracing::debug!(process = paused.name(), limit, "late memory limit"),
                        Err(error) => {
                            tracing::warn!(
                                process = paused.name(),
                                error = super::error::chain(&error),
                                "memory limit"
                            );
                        }
                    }
                });
                return Ok(());
            }
            // It will be made with the limit of its cgroup, or is over.
            Phase::Added | Phase::Creating | Phase::Stopped(_) | Phase::Failed => return Ok(()),
        }
        match self.command(command, &[]).await {
            Ok(_) => Ok(()),
            // It has ended, or is of an older binary, which ends a connection that it does not understand.
            Err(error @ ControlError::Closed) => {
                tracing::warn!(process = self.name(), error = super::error::chain(&error), "memory limit");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lets its guest read end of file.
    pub(crate) async fn close_stdin(&self) -> Result<(), TaskError> {
        self.command(Command::CloseStdin, &[]).await?;
        Ok(())
    }

    async fn stop(&self, signal: u8) -> Result<(), TaskError> {
        let grace_millis = u64::from(self.record.grace_period_seconds) * 1000;
        match self.command(Command::Stop { signal, grace_millis }, &[]).await {
            Ok(state) => tracing::debug!(process = self.name(), ?state, "asked to stop"),
            Err(ControlError::Closed) => tracing::debug!(process = self.name(), "stopped"),
            // It ended between the question and now.
            Err(_) if tokio::time::timeout(LOST_FOR, self.ended()).await.is_ok() => return Err(TaskError::Finished),
            Err(error) => return Err(error.into()),
        }
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

/// What reads the output may still read when its process has ended.
fn outlast(fifos: Vec<OwnedFd>, loggers: Vec<Logger>) {
    tokio::spawn(fifo::linger(fifos));
    for logger in loggers {
        tokio::spawn(logger.outlast());
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
