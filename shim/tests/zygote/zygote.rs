//! A zygote of a test's own, and the front's end of its connection.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use samara_shim::container::control;
use samara_shim::plan::Report;
use samara_shim::zygote::protocol::{self, Fork, Forked, PidNamespace, Reply, receive_reply, send_fork};
use samara_shim_client::bundle::{Bundle, ExitRecord};

use crate::container::Container;
use crate::probe;

/// Nothing in these tests takes longer on a machine that works.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Zygote {
    directory: tempfile::TempDir,
    process: Child,
    connection: OwnedFd,
    hello: (i32, u32),
    next: u64,
    exits: BTreeMap<i32, Exited>,
    bundles: u64,
    /// Killed with it, should a test fail.
    forked: Vec<OwnedFd>,
}

/// What the zygote said of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exited {
    pub(crate) request: u64,
    pub(crate) exit_code: u8,
    pub(crate) oom: bool,
}

/// A forked process.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) bundle: Bundle,
    pub(crate) request: u64,
}

impl Zygote {
    pub(crate) fn start() -> Self {
        Self::start_as(protocol::NAME)
    }

    /// One whose children run a [`probe`] and no guest.
    pub(crate) fn probing() -> Self {
        Self::start_as(probe::NAME)
    }

    fn start_as(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("samara-zygote-").tempdir().unwrap();
        let socket = directory.path().join("zygote.sock");
        let listen = samara_shim::zygote::listen(&socket).unwrap();
        let process = if name == protocol::NAME {
            samara_shim::zygote::start(&std::env::current_exe().unwrap(), listen).unwrap()
        } else {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg0(name).env_clear().stdin(Stdio::from(listen)).spawn().unwrap()
        };
        let connection = samara_shim::zygote::connect(&socket).unwrap();
        let mut zygote = Self {
            directory,
            process,
            connection,
            hello: (0, 0),
            next: 1,
            exits: BTreeMap::new(),
            bundles: 0,
            forked: Vec::new(),
        };
        zygote.take_hello();
        zygote
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("zygote.sock")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn connection(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// A new front in the place of the first; gives the number of children it was told.
    pub(crate) fn reconnect(&mut self) -> u32 {
        self.connection = samara_shim::zygote::connect(&self.socket()).unwrap();
        self.take_hello();
        self.hello.1
    }

    pub(crate) fn disconnect(&mut self) {
        self.take_connection();
    }

    /// The connection, which is no longer the zygote's; [`Self::reconnect`] makes another.
    pub(crate) fn take_connection(&mut self) -> OwnedFd {
        let (nobody, _) = std::os::unix::net::UnixStream::pair().unwrap();
        std::mem::replace(&mut self.connection, nobody.into())
    }

    fn take_hello(&mut self) {
        match self.next_reply() {
            Some(Reply::Hello { zygote, children }) => self.hello = (zygote, children),
            other => panic!("{other:?} instead of hello"),
        }
        assert_eq!(self.hello.0, self.pid());
    }

    /// A directory for one process's records.
    pub(crate) fn bundle(&mut self) -> Bundle {
        self.bundles += 1;
        let path = self.directory.path().join(format!("bundle-{}", self.bundles));
        std::fs::create_dir(&path).unwrap();
        Bundle::new(path)
    }

    /// Forks a container that is expected to become ready.
    pub(crate) fn fork(&mut self, container: Container) -> Running {
        let (running, message) = self.try_fork(container);
        assert_eq!(message, "", "ready");
        running
    }

    /// Forks a container; also gives what came through its status pipe.
    pub(crate) fn try_fork(&mut self, container: Container) -> (Running, String) {
        let bundle = self.bundle();
        let directory = File::open(bundle.dir()).unwrap().into();
        let (request, forked, message) = self.ask(container, &bundle, &directory).unwrap();
        let start = bundle.start_record().unwrap().expect("start.json is there before Forked is sent");
        assert_eq!(start.pid, forked.pid);
        (Running { pid: forked.pid, pidfd: forked.pidfd, bundle, request }, message)
    }

    /// Asks for a container that the zygote does not fork.
    pub(crate) fn refused(&mut self, container: Container) -> io::Error {
        let bundle = self.bundle();
        let directory = File::open(bundle.dir()).unwrap().into();
        let error = self.ask(container, &bundle, &directory).unwrap_err();
        assert_eq!(bundle.start_record().unwrap(), None);
        error
    }

    /// As above, with any file in the place of the bundle's directory.
    pub(crate) fn refused_in(&mut self, container: Container, directory: &OwnedFd) -> io::Error {
        let bundle = self.bundle();
        self.ask(container, &bundle, directory).unwrap_err()
    }

    fn ask(&mut self, container: Container, bundle: &Bundle, directory: &OwnedFd) -> io::Result<(u64, Forked, String)> {
        let (status, writer) = io::pipe().unwrap();
        let carried = container.carry(bundle);
        let report = Report::file().unwrap();
        let (request, forked) = self.request(Fork {
            request: 0,
            pid_namespace: match &carried.pid_namespace {
                PidNamespace::Host => PidNamespace::Host,
                PidNamespace::New => PidNamespace::New,
                PidNamespace::Join(file) => PidNamespace::Join(file.as_fd()),
            },
            bundle: directory.as_fd(),
            report: report.as_fd(),
            status: writer.as_fd(),
            plan: carried.plan.as_fd(),
            oom_counter: carried.oom_counter.as_ref().map(|file| file.as_fd()),
            files: carried.files.iter().map(|file| file.as_fd()).collect(),
        })?;
        self.forked.push(forked.pidfd.try_clone().unwrap());
        // The last writer is the child's.
        drop(writer);
        Ok((request, forked, io::read_to_string(status).unwrap()))
    }

    /// Sends a fork under the next number and waits for its answer.
    pub(crate) fn request(&mut self, mut fork: Fork<BorrowedFd<'_>>) -> io::Result<(u64, Forked)> {
        fork.request = self.next;
        self.next += 1;
        self.retry(PollFlags::OUT, |connection| send_fork(connection, &fork));
        loop {
            match self.next_reply().expect("an answer") {
                Reply::Forked { request, outcome } => {
                    assert_eq!(request, fork.request);
                    return outcome.map(|forked| (request, forked));
                }
                other @ (Reply::Hello { .. } | Reply::Exited { .. }) => self.keep(other),
            }
        }
    }

    /// Waits for the end of a process.
    pub(crate) fn exited(&mut self, running: &Running) -> (Exited, ExitRecord) {
        let exited = loop {
            if let Some(exited) = self.exits.remove(&running.pid) {
                break exited;
            }
            let reply = self.next_reply().expect("the zygote lives");
            self.keep(reply);
        };
        let record = running.bundle.exit_record().unwrap().expect("exit.json is there before Exited is sent");
        assert_eq!(record.pid, running.pid);
        assert_eq!((record.exit_code, record.oom_killed), (u32::from(exited.exit_code), exited.oom));
        assert!(record.seen);
        (exited, record)
    }

    /// Runs a container to its end and gives its code.
    pub(crate) fn code_of(&mut self, container: Container) -> u8 {
        let running = self.fork(container);
        self.exited(&running).0.exit_code
    }

    fn keep(&mut self, reply: Reply) {
        match reply {
            Reply::Exited { request, pid, exit_code, oom } => {
                self.exits.insert(pid, Exited { request, exit_code, oom });
            }
            other @ (Reply::Hello { .. } | Reply::Forked { .. }) => panic!("unexpected {other:?}"),
        }
    }

    /// `None` when the zygote closed the connection.
    pub(crate) fn next_reply(&self) -> Option<Reply> {
        self.retry(PollFlags::IN, receive_reply)
    }

    fn retry<T>(&self, readiness: PollFlags, mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> T {
        loop {
            match act(self.connection.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let timeout = Timespec::try_from(SOON).unwrap();
                    let ready = poll(&mut [PollFd::new(&self.connection, readiness)], Some(&timeout)).unwrap();
                    assert_ne!(ready, 0, "the zygote says nothing");
                }
                other => return other.unwrap(),
            }
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for its end; gives whether it was a good one.
    pub(crate) fn wait(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        for pidfd in &self.forked {
            // Ended already: all the better.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    pub(crate) fn kill(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid).unwrap(), signal).unwrap();
    }

    /// A file of its `/proc`.
    pub(crate) fn proc(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{path}", self.pid))
    }

    /// A field of `/proc/<pid>/status`.
    pub(crate) fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":"));
        line.unwrap_or_else(|| panic!("{field} in {status}")).trim().to_owned()
    }

    pub(crate) fn namespace(&self, name: &str) -> PathBuf {
        std::fs::read_link(self.proc(&format!("ns/{name}"))).unwrap()
    }

    /// Whether it runs, by its pidfd, whoever is its parent.
    pub(crate) fn lives(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now)).unwrap() == 0
    }

    /// Waits for its end by its pidfd.
    pub(crate) fn ended(&self) {
        let timeout = Timespec::try_from(SOON).unwrap();
        let ready = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_ne!(ready, 0, "it does not end");
    }

    /// Numbers of its open files and what they are.
    pub(crate) fn files(&self) -> Vec<(i32, String)> {
        let entries = std::fs::read_dir(self.proc("fd")).unwrap();
        let mut files: Vec<(i32, String)> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let number = entry.file_name().to_str().unwrap().parse().unwrap();
                (number, std::fs::read_link(entry.path()).unwrap().display().to_string())
            })
            .collect();
        files.sort();
        files
    }
}

/// Looks until it is so.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for the end of a connection; whether it comes without a word.
pub(crate) fn closed(connection: &OwnedFd) -> bool {
    let timeout = Timespec::try_from(SOON).unwrap();
    poll(&mut [PollFd::new(connection, PollFlags::IN)], Some(&timeout)).unwrap();
    matches!(receive_reply(connection.as_fd()), Ok(None))
        || matches!(receive_reply(connection.as_fd()), Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

/// What a container's control thread says first.
pub(crate) fn hello(running: &Running) -> control::Hello {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(control::connect(running.bundle.dir())).unwrap().hello
}
