//! The one place that forks.

use rustix::process::Pid;

/// On which side of the fork one is.
#[derive(Debug)]
pub(super) enum Side {
    Parent(Pid),
    Child,
}

/// `fork` of the C library, so that its `pthread_atfork` handlers run: the engine repairs its page map with one.
#[expect(unsafe_code, reason = "fork is sound only in a process with one thread")]
pub(super) fn fork() -> rustix::io::Result<Side> {
    // SAFETY: a child of a process with several threads has only the forking one, and every lock that another one held
    // stays locked. The zygote has one thread: it is started by exec, nothing it calls (`Host::new`, the poll loop)
    // starts another, and the kernel would refuse `unshare(CLONE_NEWPID)`'s successor threads anyhow. So no lock is
    // held here, and memory is consistent on both sides. Files of the parent which the child's memory still names are
    // not closed by their owners: the child never returns (`Child` is `-> !`, ends by `_exit`), so nothing is dropped.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Child) => Ok(Side::Child),
        Ok(nix::unistd::ForkResult::Parent { child }) => match Pid::from_raw(child.as_raw()) {
            Some(pid) => Ok(Side::Parent(pid)),
            None => Err(rustix::io::Errno::CHILD),
        },
        Err(errno) => Err(rustix::io::Errno::from_raw_os_error(errno as i32)),
    }
}
