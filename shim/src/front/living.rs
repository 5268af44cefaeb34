//! A zygote that lives: of a dead predecessor, or started anew. One of another binary is left to its containers: what is
//! compiled and planned here is not for it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::SELF;
use crate::zygote::protocol::{Reply, peek_reply};

/// A zygote greets at once, unless it is still warming up or held.
const GREETS_WITHIN: Duration = Duration::from_secs(3);

/// The zygote to fork from.
#[derive(Debug)]
pub(crate) struct Living {
    pub(crate) connection: OwnedFd,
    /// Ours to reap, if we started it.
    pub(crate) child: Option<Child>,
    pub(crate) before: Before,
}

/// Whose children a predecessor's processes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// This zygote's.
    Same,
    /// Of another, which may live: it ends with the last of them, because the name of its socket is taken.
    Another,
    /// Nobody's.
    None,
}

/// What answers on a zygote's socket.
#[derive(Debug)]
pub(crate) enum Found {
    /// Of our own binary.
    Ours(OwnedFd),
    /// Of another binary, of another version of the protocol, or silent.
    Another,
    None,
}

impl Living {
    /// Finds the zygote of a dead predecessor, or starts one. To be called before there is a second thread.
    pub(crate) fn find_or_start(socket: &Path) -> io::Result<Self> {
        match Self::find(socket) {
            Found::Ours(connection) => Ok(Self { connection, child: None, before: Before::Same }),
            Found::Another => Self::start(socket, Before::Another),
            Found::None => Self::start(socket, Before::None),
        }
    }

    /// Waits for the greeting, which stays to be read.
    pub(crate) fn find(socket: &Path) -> Found {
        let Ok(connection) = crate::zygote::connect(socket) else {
            return Found::None;
        };
        match greeting(&connection).and_then(is_ours) {
            Ok(true) => Found::Ours(connection),
            Ok(false) => {
                tracing::warn!("a zygote of another binary is left to its containers");
                Found::Another
            }
            // A dying one still takes connections for a moment.
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                Found::None
            }
            Err(error) => {
                tracing::warn!(%error, "a zygote that cannot be understood is left to its containers");
                Found::Another
            }
        }
    }

    /// Starts one, in the place of any other.
    pub(crate) fn start(socket: &Path, before: Before) -> io::Result<Self> {
        let listen = crate::zygote::listen(socket)?;
        let child = crate::zygote::start(Path::new(SELF), listen)?;
        Ok(Self { connection: crate::zygote::connect(socket)?, child: Some(child), before })
    }
}

/// The pid that it says it has. (The socket's own credentials are those of the front that made it.)
fn greeting(connection: &OwnedFd) -> io::Result<i32> {
    let patience = Timespec { tv_sec: GREETS_WITHIN.as_secs().cast_signed(), tv_nsec: 0 };
    let mut fds = [PollFd::new(connection, PollFlags::IN)];
    if poll(&mut fds, Some(&patience))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    match peek_reply(connection.as_fd())? {
        Some(Reply::Hello { zygote, .. }) => Ok(zygote),
        Some(Reply::Forked { .. } | Reply::Exited { .. }) => Err(io::Error::other("it does not greet")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// As the kernel knows the file: one of the same name that has replaced it is another.
fn is_ours(zygote: i32) -> io::Result<bool> {
    let file = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    match file(&format!("/proc/{zygote}/exe")) {
        Ok(its) => Ok(its == file(SELF)?),
        // Gone since it greeted.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(error),
    }
}
