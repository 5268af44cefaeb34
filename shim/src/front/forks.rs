//! The front's side of the zygote: forks are asked for, ends are heard, and a dead zygote is replaced.
//!
//! ```text
//!  connected ──── connection ends ────▶ connect again
//!      ▲                                 │ answered: the same zygote; forks without answer have failed
//!      │                                 │ refused: it is dead. Its processes are ours now (we are their subreaper)
//!      └──────── start another ◀─────────┘          and each is watched until it ends
//! ```

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::{oneshot, watch};

use super::living::{Before, Found, Living};
use super::orphan;
use super::process::Process;
use super::watched::{Watched, watch_both};
use crate::zygote::protocol::{Fork, Forked, PidNamespace, Reply, receive_reply, send_fork, send_retire};
use samara_shim_client::bundle::ExitRecord;

/// How long a fork may wait while the zygote is being replaced.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);

/// How soon after its first message a zygote has told of those that ended before.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// At least between two zygotes.
const PAUSE: Duration = Duration::from_millis(200);

/// The zygote, whichever it is. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: PathBuf,
    connection: watch::Sender<Option<Arc<Watched>>>,
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, Waiting>,
    /// Living processes by pid.
    children: HashMap<i32, Arc<Process>>,
    /// No further forks will be asked for.
    retired: bool,
}

#[derive(Debug)]
struct Waiting {
    process: Arc<Process>,
    report: OwnedFd,
    answer: oneshot::Sender<io::Result<i32>>,
}

/// What a fork takes beside the process's files.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) bundle: OwnedFd,
    pub(crate) report: OwnedFd,
    pub(crate) status: OwnedFd,
    pub(crate) plan: OwnedFd,
    pub(crate) pid_namespace: PidNamespace<OwnedFd>,
    pub(crate) oom_counter: Option<OwnedFd>,
    pub(crate) files: Vec<OwnedFd>,
}

impl Forks {
    /// `children` are processes that a predecessor left to the living zygote, or to nobody.
    pub(crate) fn run(socket: &Path, living: Living, children: Vec<Arc<Process>>) -> io::Result<Self> {
        let by_pid = |process: Arc<Process>| Some((process.phase().pid()?, process));
        let Living { connection: file, child, before } = living;
        let (connection, _) = watch::channel(None);
        let state = State { children: children.into_iter().filter_map(by_pid).collect(), ..State::default() };
        let inner = Inner { socket: socket.into(), connection, state: Mutex::new(state), next: AtomicU64::new(1) };
        let forks = Self(Arc::new(inner));
        match before {
            Before::Same => forks.watch_adopted(),
            // It writes their records.
            Before::Another => forks.orphan_all(TOLD_WITHIN),
            Before::None => forks.orphan_all(Duration::ZERO),
        }
        let reader = forks.clone();
        let file = watch_both(file)?;
        tokio::spawn(async move { reader.hear(file, child).await });
        Ok(forks)
    }

    /// Forks `process` and gives its pid. Its end is told to the process itself.
    pub(crate) async fn fork(&self, process: &Arc<Process>, order: Order) -> io::Result<i32> {
        let connection = self.connected().await?;
        let (answer, answered) = oneshot::channel();
        let request = self.0.next.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { process: Arc::clone(process), report: order.report.try_clone()?, answer };
        self.state().waiting.insert(request, waiting);
        let sent = send(&connection, request, &order).await;
        drop(order);
        let outcome = match sent {
            Ok(()) => answered.await.unwrap_or_else(|_lost| Err(io::ErrorKind::ConnectionReset.into())),
            Err(error) => Err(error),
        };
        self.state().waiting.remove(&request);
        if let Err(error) = &outcome
            && matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        {
            // So that whoever tries again meets another zygote.
            self.replaced(&connection).await;
        }
        outcome
    }

    async fn replaced(&self, lost: &Arc<Watched>) {
        let mut connection = self.0.connection.subscribe();
        let another = |now: &Option<Arc<Watched>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, lost));
        // Too late, or never: then the next try says so.
        let _ = tokio::time::timeout(REPLACED_WITHIN, connection.wait_for(another)).await;
    }

    /// Lets the zygote end when its last process has.
    pub(crate) fn retire(&self) {
        self.state().retired = true;
        if let Some(connection) = self.0.connection.borrow().as_ref()
            && let Err(error) = send_retire(connection.get_ref().as_fd())
        {
            tracing::debug!(%error, "the zygote could not be retired");
        }
    }

    async fn connected(&self) -> io::Result<Arc<Watched>> {
        let mut connection = self.0.connection.subscribe();
        let there = tokio::time::timeout(REPLACED_WITHIN, connection.wait_for(Option::is_some)).await;
        match there {
            Ok(Ok(there)) => there.clone().ok_or_else(|| io::ErrorKind::NotConnected.into()),
            Ok(Err(_)) | Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "there is no zygote")),
        }
    }

    /// Reads replies for ever, from one zygote after another.
    async fn hear(self, first: Watched, mut child: Option<std::process::Child>) {
        let mut connection = Arc::new(first);
        loop {
            let began = tokio::time::Instant::now();
            let end = self.hear_one(&connection).await;
            self.0.connection.send_replace(None);
            self.state().waiting.clear();
            if self.state().retired {
                return;
            }
            tracing::warn!(
                reason = end.map_or_else(|error| error.to_string(), |()| "end of file".into()),
                "zygote lost"
            );
            // One that dies young would be followed by many.
            tokio::time::sleep_until(began + PAUSE).await;
            (connection, child) = self.reconnect(child).await;
        }
    }

    async fn hear_one(&self, connection: &Arc<Watched>) -> io::Result<()> {
        loop {
            let reply = connection.async_io(Interest::READABLE, |file| receive_reply(file.as_fd())).await?;
            match reply {
                None => return Ok(()),
                Some(Reply::Hello { zygote, children }) => {
                    tracing::info!(zygote, children, "zygote is there");
                    // Not before: a dying one still takes connections for a moment.
                    self.0.connection.send_replace(Some(Arc::clone(connection)));
                    self.orphan_lost();
                }
                Some(Reply::Forked { request, outcome }) => self.forked(request, outcome),
                Some(Reply::Exited { request: _, pid, exit_code, oom }) => self.exited(pid, exit_code, oom),
            }
        }
    }

    fn forked(&self, request: u64, outcome: io::Result<Forked>) {
        let Some(waiting) = self.state().waiting.remove(&request) else {
            tracing::warn!(request, "answer to a fork that nobody asked for");
            return;
        };
        let outcome = outcome.map(|forked| {
            waiting.process.forked(forked.pidfd, waiting.report);
            // Here, so that the next message, which may be its end, finds it.
            self.state().children.insert(forked.pid, waiting.process);
            forked.pid
        });
        // Who asked may have gone; the process is in the table all the same.
        let _ = waiting.answer.send(outcome);
    }

    fn exited(&self, pid: i32, exit_code: u8, oom_killed: bool) {
        let Some(process) = self.state().children.remove(&pid) else {
            tracing::debug!(pid, exit_code, "end of a process that is not known");
            return;
        };
        let record = process.bundle.exit_record().ok().flatten().unwrap_or_else(|| ExitRecord {
            pid,
            exit_code: exit_code.into(),
            oom_killed,
            message: None,
            exited_at_nanos: orphan::now(),
            seen: true,
        });
        process.exited(record);
    }

    /// After a lost connection: the same zygote once more, or another.
    async fn reconnect(&self, child: Option<std::process::Child>) -> (Arc<Watched>, Option<std::process::Child>) {
        let socket = self.0.socket.clone();
        let found = tokio::task::spawn_blocking(move || Living::find(&socket)).await;
        if let Ok(Found::Ours(connection)) = found
            && let Ok(connection) = watch_both(connection)
        {
            return (Arc::new(connection), child);
        }
        if let Some(child) = child {
            // It closed its files: it is ending now, and its processes become ours when it has.
            orphan::ended_within(&child, REPLACED_WITHIN).await;
        }
        self.orphan_all(Duration::ZERO);
        loop {
            let started = Living::start(&self.0.socket, Before::None);
            match started.and_then(|living| Ok((Arc::new(watch_both(living.connection)?), living.child))) {
                Ok(there) => return there,
                Err(error) => tracing::error!(%error, "start a zygote"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Watches every process whose parent is gone.
    fn orphan_all(&self, patience: Duration) {
        let children = std::mem::take(&mut self.state().children);
        for (pid, process) in children {
            tokio::spawn(orphan::until_recorded(pid, process, patience));
        }
    }

    /// Some of the living may have another zygote, from before an upgrade: it writes the record, and tells nobody.
    fn watch_adopted(&self) {
        for (&pid, process) in self.state().children.iter().filter(|(_, child)| child.pidfd().is_some()) {
            tokio::spawn(orphan::until_recorded(pid, Arc::clone(process), TOLD_WITHIN));
        }
    }

    /// Watches those that ended while nobody was connected: the zygote tells of them now, or nobody ever will.
    fn orphan_lost(&self) {
        for (&pid, process) in self.state().children.iter().filter(|(_, child)| child.pidfd().is_none()) {
            tokio::spawn(orphan::until_recorded(pid, Arc::clone(process), TOLD_WITHIN));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(connection: &Watched, request: u64, order: &Order) -> io::Result<()> {
    let fork = Fork::<BorrowedFd<'_>> {
        request,
        pid_namespace: match &order.pid_namespace {
            PidNamespace::Host => PidNamespace::Host,
            PidNamespace::New => PidNamespace::New,
            PidNamespace::Join(file) => PidNamespace::Join(file.as_fd()),
        },
        bundle: order.bundle.as_fd(),
        report: order.report.as_fd(),
        status: order.status.as_fd(),
        plan: order.plan.as_fd(),
        oom_counter: order.oom_counter.as_ref().map(OwnedFd::as_fd),
        files: order.files.iter().map(OwnedFd::as_fd).collect(),
    };
    connection.async_io(Interest::WRITABLE, |file| send_fork(file.as_fd(), &fork)).await
}
