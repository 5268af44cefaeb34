//! The front's part in a zygote's life: it makes the socket, starts the process and connects.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as connect_to, listen as listen_on,
    socket_with,
};

use super::protocol::NAME;

/// Makes the zygote's listening socket at `path`, replacing what a dead zygote left there.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = packet_socket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen_on(&socket, 16)?;
    Ok(socket)
}

/// Starts a zygote on `listen` by exec of `exe`. Its stdout and stderr are the caller's; it has no environment.
///
/// The caller is its parent and reaps it. To be called while the caller has no other thread.
pub fn start(exe: &Path, listen: OwnedFd) -> io::Result<Child> {
    Command::new(exe).arg0(NAME).env_clear().current_dir("/").stdin(Stdio::from(listen)).spawn()
}

/// Connects to a zygote. The socket is non-blocking, for `tokio::io::unix::AsyncFd`.
///
/// `ConnectionRefused` and `NotFound` mean that there is none (any more).
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = packet_socket()?;
    connect_to(socket.as_fd(), &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn packet_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}
