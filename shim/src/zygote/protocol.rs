//! Front and zygote: one `SOCK_SEQPACKET` connection, fixed headers, file descriptors beside them.
//!
//! ```text
//! front  ◀─ Hello{zygote, children} ────────────────────── zygote   once, on connect
//! front  ── Fork{request, pid_namespace} + fds ──────────▶ zygote
//! front  ◀─ Forked{request, pid} + pidfd, or its errno ─── zygote
//! front  ◀─ Exited{request, pid, exit_code, oom} ───────── zygote   any time later
//! front  ── Retire ──────────────────────────────────────▶ zygote   it ends with its last container
//! ```
//!
//! File descriptors of `Fork`, in order: the bundle directory (records are written there), the report memfd, the status
//! pipe's write end, the plan memfd, the pid namespace to join (only with [`PidNamespace::Join`]), the file with the
//! cgroup's `oom_kill` counter (only if there is one: v1 `memory.oom_control`, v2 `memory.events`), then the files the
//! plan names, [`crate::plan::Fd`] 0 first. Bundle, report and counter stay open in the zygote until the process is
//! reaped, the rest is closed right after the fork.
//!
//! The status pipe carries the outcome of the set-up from the container to the front: nothing but end of file when all
//! is ready and the guest waits for `start`, or an error message (UTF-8, at most 4 KiB) and end of file.
//!
//! Guarantees: records are on disk before `Forked` and `Exited` are sent. `Exited` of processes that ended while no
//! front was connected is sent to the next one, right after `Hello`; its `request` is the number its own front gave, so
//! a front that did not ask for it goes by `pid` (which no process has in between: messages come in order).
//! A request that cannot be carried out is answered with an errno; a message that is not of this protocol ends the
//! connection and nothing else. Caveat: a front that connects while another is connected replaces it.
//!
//! Every header is 32 bytes, little endian: magic `u32`, version `u16`, kind `u16`, request `u64`, `a` `u32`, `b` `u32`,
//! `flags` `u32`, reserved `u32`. Magic and version keep their place in every version.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::wire;

/// Most file descriptors in one message, those of the zygote included.
pub use super::wire::MAX_FDS;

/// `argv[0]` by which the binary knows that it is a zygote.
pub const NAME: &str = "samara-zygote";

/// Spoken here.
pub const VERSION: u16 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"SmZy");
const SIZE: usize = 32;

const FORK: u16 = 1;
const RETIRE: u16 = 2;
const HELLO: u16 = 101;
const FORKED: u16 = 102;
const EXITED: u16 = 103;

const PID_NAMESPACE_NEW: u32 = 1;
const PID_NAMESPACE_JOIN: u32 = 2;
const OOM_COUNTER: u32 = 4;
const OOM: u32 = 1;

/// The pid namespace of a process to be forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PidNamespace<F> {
    /// The zygote's.
    Host,
    /// A new one, of which it is process 1.
    New,
    /// An existing one (`/proc/<pid>/ns/pid`).
    Join(F),
}

/// A process to be forked, as the front sends it (`F` borrows) and the zygote receives it (`F` owns).
#[derive(Debug)]
pub struct Fork<F> {
    /// The front's number for it, given back in every answer.
    pub request: u64,
    pub pid_namespace: PidNamespace<F>,
    /// Directory in which the zygote writes the records.
    pub bundle: F,
    /// Where the process leaves its [`crate::plan::Report`].
    pub report: F,
    /// Write end of the status pipe.
    pub status: F,
    /// Memfd with the [`crate::plan::ContainerPlan`] in JSON.
    pub plan: F,
    /// Holds a line `oom_kill <count>`.
    pub oom_counter: Option<F>,
    /// What the plan's [`crate::plan::Fd`] point into.
    pub files: Vec<F>,
}

/// What a front asks.
#[derive(Debug)]
pub enum Request {
    Fork(Fork<OwnedFd>),
    /// No more forks will come: end when the last container has ended.
    Retire,
}

/// What a zygote says.
#[derive(Debug)]
pub enum Reply {
    /// First message of every connection.
    Hello {
        /// Pid of the zygote.
        zygote: i32,
        /// Processes it is the parent of.
        children: u32,
    },
    /// Answer to [`Request::Fork`].
    Forked { request: u64, outcome: Result<Forked, io::Error> },
    /// A process ended; `exit.json` is written.
    Exited {
        request: u64,
        pid: i32,
        /// 0 to 255, 128 + signal for a killed one.
        exit_code: u8,
        /// Its memory limit was reached.
        oom: bool,
    },
}

/// A process that runs.
#[derive(Debug)]
pub struct Forked {
    /// As the zygote's pid namespace counts.
    pub pid: i32,
    /// Names the same process for ever.
    pub pidfd: OwnedFd,
}

/// Not of this protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a message of {0} bytes, not {SIZE}")]
    Size(usize),
    #[error("magic {0:#x}")]
    Magic(u32),
    #[error("version {0}, this is {VERSION}")]
    Version(u16),
    #[error("unknown kind {0}")]
    Kind(u16),
    #[error("unknown flags {0:#x}")]
    Flags(u32),
    #[error("{0} file descriptors do not fit its kind")]
    Fds(usize),
    #[error("{value} is no {field}")]
    Value { field: &'static str, value: u32 },
}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, malformed)
    }
}

/// Asks for a process. `WouldBlock` passes through, for `AsyncFd::async_io`.
pub fn send_fork(socket: BorrowedFd<'_>, fork: &Fork<BorrowedFd<'_>>) -> io::Result<()> {
    let mut fds = vec![fork.bundle, fork.report, fork.status, fork.plan];
    let mut flags = 0;
    match fork.pid_namespace {
        PidNamespace::Host => {}
        PidNamespace::New => flags |= PID_NAMESPACE_NEW,
        PidNamespace::Join(namespace) => {
            flags |= PID_NAMESPACE_JOIN;
            fds.push(namespace);
        }
    }
    if let Some(counter) = fork.oom_counter {
        flags |= OOM_COUNTER;
        fds.push(counter);
    }
    fds.extend(&fork.files);
    let header = Header { kind: FORK, request: fork.request, a: 0, b: 0, flags };
    send(socket, header, &fds)
}

/// See [`Request::Retire`].
pub fn send_retire(socket: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, Header::of(RETIRE), &[])
}

/// The zygote's next message; `None` at the end of the connection. `WouldBlock` passes through.
pub fn receive_reply(socket: BorrowedFd<'_>) -> io::Result<Option<Reply>> {
    match receive(socket)? {
        Some((header, fds)) => Ok(Some(Reply::decode(header, fds)?)),
        None => Ok(None),
    }
}

/// The zygote's next message if it brings no file, which stays to be received.
pub fn peek_reply(socket: BorrowedFd<'_>) -> io::Result<Option<Reply>> {
    // One byte more, so that a longer one is seen to be longer.
    let mut bytes = [0; SIZE + 1];
    match wire::peek(socket, &mut bytes)? {
        0 => Ok(None),
        received => Ok(Some(Reply::decode(Header::decode(&bytes[..received])?, Vec::new())?)),
    }
}

/// The zygote's part of [`receive_reply`].
pub fn send_reply(socket: BorrowedFd<'_>, reply: &Reply) -> io::Result<()> {
    match reply {
        Reply::Hello { zygote, children } => {
            let header = Header { a: zygote.cast_unsigned(), b: *children, ..Header::of(HELLO) };
            send(socket, header, &[])
        }
        Reply::Forked { request, outcome: Ok(Forked { pid, pidfd }) } => {
            let header = Header { request: *request, a: pid.cast_unsigned(), ..Header::of(FORKED) };
            send(socket, header, &[pidfd.as_fd()])
        }
        Reply::Forked { request, outcome: Err(error) } => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let header = Header { request: *request, b: errno.cast_unsigned(), ..Header::of(FORKED) };
            send(socket, header, &[])
        }
        Reply::Exited { request, pid, exit_code, oom } => {
            let header = Header {
                kind: EXITED,
                request: *request,
                a: pid.cast_unsigned(),
                b: u32::from(*exit_code),
                flags: if *oom { OOM } else { 0 },
            };
            send(socket, header, &[])
        }
    }
}

/// A front's next message, as the zygote receives it; `None` at the end of the connection.
pub fn receive_request(socket: BorrowedFd<'_>) -> io::Result<Option<Request>> {
    match receive(socket)? {
        Some((header, fds)) => Ok(Some(Request::decode(header, fds)?)),
        None => Ok(None),
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u16,
    request: u64,
    a: u32,
    b: u32,
    flags: u32,
}

impl Header {
    fn of(kind: u16) -> Self {
        Self { kind, request: 0, a: 0, b: 0, flags: 0 }
    }

    fn encode(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.request.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.a.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.b.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: &[u8; SIZE] = bytes.try_into().map_err(|_| Malformed::Size(bytes.len()))?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if word(0) != MAGIC {
            return Err(Malformed::Magic(word(0)));
        }
        if half(4) != VERSION {
            return Err(Malformed::Version(half(4)));
        }
        Ok(Self {
            kind: half(6),
            request: u64::from(word(8)) | u64::from(word(12)) << 32,
            a: word(16),
            b: word(20),
            flags: word(24),
        })
    }

    fn no_flags_but(self, known: u32) -> Result<Self, Malformed> {
        match self.flags & !known {
            0 => Ok(self),
            unknown => Err(Malformed::Flags(unknown)),
        }
    }
}

impl Request {
    fn decode(header: Header, fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        match header.kind {
            FORK => {
                header.no_flags_but(PID_NAMESPACE_NEW | PID_NAMESPACE_JOIN | OOM_COUNTER)?;
                Fork::decode(header, fds).map(Self::Fork)
            }
            RETIRE if fds.is_empty() => header.no_flags_but(0).map(|_| Self::Retire),
            RETIRE => Err(Malformed::Fds(fds.len())),
            unknown => Err(Malformed::Kind(unknown)),
        }
    }
}

impl Fork<OwnedFd> {
    fn decode(header: Header, fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        let count = fds.len();
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or(Malformed::Fds(count));
        Ok(Self {
            request: header.request,
            bundle: next()?,
            report: next()?,
            status: next()?,
            plan: next()?,
            pid_namespace: match header.flags & (PID_NAMESPACE_NEW | PID_NAMESPACE_JOIN) {
                0 => PidNamespace::Host,
                PID_NAMESPACE_NEW => PidNamespace::New,
                PID_NAMESPACE_JOIN => PidNamespace::Join(next()?),
                both => return Err(Malformed::Flags(both)),
            },
            oom_counter: match header.flags & OOM_COUNTER {
                0 => None,
                _ => Some(next()?),
            },
            files: fds.collect(),
        })
    }
}

impl Reply {
    fn decode(header: Header, mut fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        let pidfd = fds.pop();
        if !fds.is_empty() || (pidfd.is_some() && header.kind != FORKED) {
            return Err(Malformed::Fds(fds.len() + 1));
        }
        let pid = header.a.cast_signed();
        match header.kind {
            HELLO => Ok(Self::Hello { zygote: pid, children: header.b }),
            FORKED => Ok(Self::Forked {
                request: header.request,
                outcome: match (header.b, pidfd) {
                    (0, Some(pidfd)) => Ok(Forked { pid, pidfd }),
                    (0, None) => return Err(Malformed::Fds(0)),
                    (errno, _) => Err(io::Error::from_raw_os_error(errno.cast_signed())),
                },
            }),
            EXITED => {
                header.no_flags_but(OOM)?;
                Ok(Self::Exited {
                    request: header.request,
                    pid,
                    exit_code: u8::try_from(header.b)
                        .map_err(|_| Malformed::Value { field: "exit code", value: header.b })?,
                    oom: header.flags & OOM != 0,
                })
            }
            unknown => Err(Malformed::Kind(unknown)),
        }
    }
}

fn send(socket: BorrowedFd<'_>, header: Header, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    wire::send(socket, &header.encode(), fds).map(drop)
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Header, Vec<OwnedFd>)>> {
    let (mut bytes, mut fds) = ([0; SIZE], Vec::new());
    match wire::receive(socket, &mut bytes, &mut fds)? {
        0 => Ok(None),
        received => Ok(Some((Header::decode(&bytes[..received])?, fds))),
    }
}
