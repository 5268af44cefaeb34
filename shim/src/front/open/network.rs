//! A network namespace with nothing in it but its loopback, as `ctr run` asks for.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use nix::sched::CloneFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Makes one. It lives as long as the file, or a process in it.
pub(super) fn new() -> io::Result<OwnedFd> {
    // A thread of its own: it stays in that namespace until it ends.
    let made = thread::spawn(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
        raise_loopback()?;
        File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    });
    made.join().unwrap_or_else(|_panic| Err(io::Error::other("the thread that makes a network namespace")))
}

/// `ip link set lo up`: one rtnetlink message.
fn raise_loopback() -> io::Result<()> {
    const LENGTH: u32 = 32;
    const LOOPBACK: i32 = 1;
    let up = libc::IFF_UP.cast_unsigned();
    let mut message = Vec::with_capacity(LENGTH as usize);
    // nlmsghdr: length, type, flags, sequence, port.
    message.extend(LENGTH.to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).unwrap_or_default().to_ne_bytes());
    message.extend([0; 8]);
    // ifinfomsg: family and padding, type, index, flags, which flags.
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(up.to_ne_bytes());
    message.extend(up.to_ne_bytes());

    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // nlmsgerr: behind the header stands 0, or a negative errno.
    match answer[..length].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::Error::other("a short answer from rtnetlink")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_new_namespace_has_its_loopback_up_and_nothing_of_ours() {
        let namespace = new().expect("namespace");
        let inside = thread::spawn(move || {
            nix::sched::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).expect("entered");
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
            let address = listener.local_addr().expect("address");
            std::net::TcpStream::connect(address).expect("connected");
            std::fs::read_to_string("/proc/thread-self/net/dev").expect("devices").lines().count()
        });
        // Two lines of heading, and lo.
        assert_eq!(inside.join().expect("thread"), 3);
    }
}
