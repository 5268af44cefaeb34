//! Bytes with file descriptors beside them, over a unix socket.
//!
//! Nothing here blocks or waits by itself: the socket's own mode decides. `WouldBlock` passes through unchanged, so the
//! functions fit `tokio::io::unix::AsyncFd::async_io`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, sendmsg,
};

/// Most file descriptors in one message. The kernel's own limit is 253.
pub const MAX_FDS: usize = 250;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// Sends `bytes` with `fds` in one call and returns how many bytes were taken (all of them on a packet socket).
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} file descriptors in one message, at most {MAX_FDS} fit", fds.len()),
        ));
    }
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        let pushed = control.push(SendAncillaryMessage::ScmRights(fds));
        debug_assert!(pushed, "SPACE holds MAX_FDS");
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

/// Receives into `buffer`; appends the file descriptors that came beside the bytes, close-on-exec, to `fds`.
/// 0 bytes is the end of the connection.
///
/// What did not fit (bytes or descriptors) is refused as [`io::ErrorKind::InvalidData`], and nothing of it is kept.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let before = fds.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        fds.truncate(before);
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message is longer than the protocol allows"));
    }
    Ok(received.bytes)
}

/// Looks at the bytes of the next message, which stays to be received. 0 bytes is the end of the connection.
pub(crate) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (length, _) = recv(socket, buffer, RecvFlags::PEEK)?;
    Ok(length)
}

/// Whether file descriptors come beside what [`receive`] would give now; takes neither. Not an error: nothing is there yet.
pub(crate) fn brings_files(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<bool> {
    // Without room for them the kernel says that there are some.
    let mut control = RecvAncillaryBuffer::default();
    match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::PEEK) {
        Ok(seen) => Ok(seen.flags.contains(ReturnFlags::CTRUNC)),
        Err(rustix::io::Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_beside_their_bytes() {
        let (left, right) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send(left.as_fd(), b"two", &[null.as_fd(), null.as_fd()]).unwrap();
        let (mut bytes, mut fds) = ([0; 8], Vec::new());
        assert_eq!(receive(right.as_fd(), &mut bytes, &mut fds).unwrap(), 3);
        assert_eq!((&bytes[..3], fds.len()), (b"two".as_slice(), 2));
        for fd in &fds {
            let flags = rustix::io::fcntl_getfd(fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn descriptors_are_seen_before_they_are_taken() {
        let (left, right) = UnixStream::pair().unwrap();
        right.set_nonblocking(true).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (mut bytes, mut fds) = ([0; 8], Vec::new());
        assert!(!brings_files(right.as_fd(), &mut bytes).unwrap(), "nothing was sent");
        send(left.as_fd(), b"none", &[]).unwrap();
        assert!(!brings_files(right.as_fd(), &mut bytes).unwrap());
        send(left.as_fd(), b"one", &[null.as_fd()]).unwrap();
        assert!(brings_files(right.as_fd(), &mut bytes).unwrap());
        assert_eq!(receive(right.as_fd(), &mut bytes, &mut fds).unwrap(), 7);
        assert_eq!((&bytes[..7], fds.len()), (b"noneone".as_slice(), 1), "all is still there");
    }

    #[test]
    fn more_descriptors_than_fit_are_refused_before_they_are_sent() {
        let (left, _right) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let fds = vec![null.as_fd(); MAX_FDS + 1];
        let error = send(left.as_fd(), b"x", &fds).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        send(left.as_fd(), b"x", &fds[..MAX_FDS]).unwrap();
    }
}
