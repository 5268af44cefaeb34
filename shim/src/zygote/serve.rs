//! The loop: one listening socket, one front, one stream of ended children.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

use super::children::{Children, OomCounter, Running};
use super::fork::{Side, fork};
use super::pid_namespace::Home;
use super::protocol::{Fork, Forked, Reply, Request, receive_request, send_reply};
use super::watch::Watch;
use super::{Child, Warm, record, signals};

/// The loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("receive child signals")]
    Signals(#[source] io::Error),
    #[error("open the pid namespace")]
    Home(#[source] io::Error),
    #[error("wait for messages")]
    Poll(#[source] io::Error),
    #[error("return to the zygote's own pid namespace")]
    ComeBack(#[source] io::Error),
}

/// Serves fronts on `listen` until it is retired or its socket is gone, and no child is left.
pub fn serve(warm: &Warm, listen: OwnedFd, watch: Watch, child: Child) -> Result<(), ServeError> {
    let mut zygote = Zygote {
        warm,
        listen,
        watch,
        child,
        signals: signals::child_signals().map_err(ServeError::Signals)?,
        home: Home::new(&warm.proc).map_err(ServeError::Home)?,
        children: Children::default(),
        front: None,
        outbox: VecDeque::new(),
        retired: false,
        gone: false,
    };
    zygote.gone = zygote.watch.is_gone();
    while !zygote.is_over() {
        zygote.turn()?;
    }
    Ok(())
}

struct Zygote<'a> {
    warm: &'a Warm,
    listen: OwnedFd,
    watch: Watch,
    child: Child,
    signals: SignalFd,
    home: Home,
    children: Children,
    front: Option<OwnedFd>,
    /// Not sent yet, oldest first.
    outbox: VecDeque<Reply>,
    /// A front said that no more forks will come.
    retired: bool,
    /// The socket has no name any more.
    gone: bool,
}

impl Zygote<'_> {
    /// Records are on disk, so what a lost front was not told is not lost with it.
    fn is_over(&self) -> bool {
        let told = self.front.is_none() || self.outbox.is_empty();
        let unwanted = self.retired || (self.gone && self.front.is_none());
        unwanted && told && self.children.is_empty()
    }

    fn turn(&mut self) -> Result<(), ServeError> {
        let ready = self.wait().map_err(ServeError::Poll)?;
        if ready.signals {
            while matches!(self.signals.read_signal(), Ok(Some(_))) {}
            self.outbox.extend(self.children.reap());
        }
        if ready.watch {
            self.gone = self.watch.is_gone();
        }
        if ready.front {
            self.hear()?;
        }
        if ready.listen {
            self.accept();
        }
        self.tell();
        Ok(())
    }

    fn wait(&self) -> io::Result<Ready> {
        let signals = self.signals.as_fd();
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN), PollFd::new(&self.listen, PollFlags::IN)];
        if let Some(front) = &self.front {
            let write = if self.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(front, PollFlags::IN | write));
        }
        let watch = self.watch.file();
        if let Some(watch) = &watch {
            fds.push(PollFd::new(watch, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            other => other?,
        };
        let mut ready = fds.iter().map(|fd| !(fd.revents() - PollFlags::OUT).is_empty());
        let mut next = || ready.next().unwrap_or(false);
        Ok(Ready {
            signals: next(),
            listen: next(),
            front: self.front.is_some() && next(),
            watch: self.watch.file().is_some() && next(),
        })
    }

    /// The newest front wins: the one before is dead, or has been replaced.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(front) = accept_with(&self.listen, flags) else {
            return;
        };
        self.lose_front();
        self.outbox.push_front(Reply::Hello {
            zygote: rustix::process::getpid().as_raw_nonzero().get(),
            children: u32::try_from(self.children.len()).unwrap_or(u32::MAX),
        });
        self.front = Some(front);
    }

    /// Ends are kept for the next front; answers were for this one.
    fn lose_front(&mut self) {
        self.front = None;
        self.outbox.retain(|reply| match reply {
            Reply::Exited { .. } => true,
            Reply::Hello { .. } | Reply::Forked { .. } => false,
        });
    }

    fn hear(&mut self) -> Result<(), ServeError> {
        let Some(front) = &self.front else {
            return Ok(());
        };
        match receive_request(front.as_fd()) {
            Ok(Some(Request::Fork(fork))) => {
                let request = fork.request;
                let outcome = self.fork(fork)?;
                self.outbox.push_back(Reply::Forked { request, outcome });
            }
            Ok(Some(Request::Retire)) => self.retired = true,
            Ok(None) => self.lose_front(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                eprintln!("samara-zygote: end the connection of a front: {error}");
                self.lose_front();
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        while let (Some(front), Some(reply)) = (&self.front, self.outbox.front()) {
            match send_reply(front.as_fd(), reply) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.lose_front(),
            }
        }
    }

    /// The outer error is the zygote's end, the inner one the front's answer.
    fn fork(&mut self, fork_of: Fork<OwnedFd>) -> Result<io::Result<Forked>, ServeError> {
        if self.retired {
            return Ok(Err(io::Error::from_raw_os_error(libc::ESHUTDOWN)));
        }
        if let Err(error) = self.home.leave_for(&fork_of.pid_namespace) {
            return Ok(Err(error.into()));
        }
        let side = fork();
        if let Ok(Side::Child) = side {
            (self.child)(self.warm, fork_of);
        }
        self.home.come_back(&fork_of.pid_namespace).map_err(ServeError::ComeBack)?;
        let pid = match side {
            Ok(Side::Parent(pid)) => pid,
            Ok(Side::Child) => unreachable!("a child never returns"),
            Err(error) => return Ok(Err(error.into())),
        };
        let running = Running {
            request: fork_of.request,
            bundle: fork_of.bundle,
            report: fork_of.report,
            oom: fork_of.oom_counter.map(OomCounter::new),
        };
        let recorded = record::start(&running.bundle, &self.warm.proc, pid)
            .and_then(|()| Ok(pidfd_open(pid, PidfdFlags::empty())?));
        Ok(match recorded {
            Ok(pidfd) => {
                self.children.insert(pid, running);
                Ok(Forked { pid: pid.as_raw_nonzero().get(), pidfd })
            }
            Err(error) => {
                // A process that nobody could find again must not run. It is reaped like any other, untold.
                let _ = kill_process(pid, Signal::KILL);
                Err(error)
            }
        })
    }
}

#[derive(Debug, Default)]
struct Ready {
    signals: bool,
    listen: bool,
    front: bool,
    watch: bool,
}
