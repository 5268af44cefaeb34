//! System calls for which no crate has a safe face.

#![expect(unsafe_code, reason = "each function below is one system call with its proof")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use rustix::thread::UnshareFlags;

/// New namespaces for the calling thread, which is the process's only one.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "namespaces only");
    // SAFETY: unsafe only for CLONE_FILES, by which threads would come to differ in what their descriptors mean; it is
    // excluded above. All others change what later path and id look-ups of this process find.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Closes all descriptors from `first` to `last`, both included.
///
/// # Panics
/// Not. But descriptors are closed under whoever owns them: see the proof.
pub(super) fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: passes no pointer. Owners of closed descriptors exist only in the zygote's structures, copied by the fork;
    // nothing of them is used or dropped in a child: it owns what came with its request (which the caller leaves open),
    // never returns into the zygote's frames, and ends by `_exit`.
    match unsafe { libc::close_range(first.cast_unsigned(), last.cast_unsigned(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts `file` under the number of `stream`, which stays close-on-exec.
pub(super) fn replace(file: BorrowedFd<'_>, stream: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: passes no pointer. `stream` is borrowed, so its number is open and stays its owners'; they are a stream of the
    // guest's, whose contract is that the file under it may be replaced at any time (`samara_runtime::Output`), and who shares
    // it with that. dup3 does it atomically.
    match unsafe { libc::dup3(file.as_raw_fd(), stream.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Attributes of one mount, attached or not.
pub(super) fn mount_setattr(mount: BorrowedFd<'_>, set: u64, propagation: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    // SAFETY: the path is a literal with its NUL, the structure lives until after the call and its true size is passed;
    // the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process, all threads of it, without running anything that was inherited from the zygote: no destructors, no
/// `atexit`, no flushing of its buffers.
pub(super) fn exit(code: u8) -> ! {
    // SAFETY: never returns, so nothing can observe what it left undone.
    unsafe { libc::_exit(i32::from(code)) }
}
