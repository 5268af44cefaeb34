//! The zygote's signals and standard files, put into a known state before anything else.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Mode, OFlags};

/// Default handling for all signals but SIGPIPE, which stays ignored, and nothing blocked: whatever the parent had set.
///
/// Comes before the engine, which handles some signals itself.
pub(super) fn reset() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE) {
            continue;
        }
        // SAFETY: no handler of Rust code is installed (SIG_DFL runs none), and none that the standard library relies
        // on is replaced but its stack overflow message for SIGSEGV and SIGBUS, which the engine's handlers take over.
        #[expect(unsafe_code, reason = "sigaction is unsafe for the handlers it may install")]
        unsafe {
            sigaction(signal, &default)?;
        }
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Blocks SIGCHLD and makes it readable instead.
pub(super) fn child_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Undoes [`child_signals`] in a child.
pub(crate) fn unblock() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Takes what is on file 0 and leaves `/dev/null` there.
pub(super) fn take_stdin() -> io::Result<OwnedFd> {
    let taken = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(taken)
}
