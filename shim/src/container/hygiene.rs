//! A child's first acts: it forgets what it has of the zygote and of the zygote's other children.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::OnceLock;

use super::kernel;
use crate::plan::Report;
use crate::zygote::Warm;
use crate::zygote::protocol::{Fork, PidNamespace};

/// A child could not be separated from its zygote.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct HygieneError {
    operation: &'static str,
    #[source]
    source: io::Error,
}

fn at<E: Into<io::Error>>(operation: &'static str) -> impl Fn(E) -> HygieneError {
    move |source| HygieneError { operation, source: source.into() }
}

/// Leaves open what the request brought and what the engine needs, and nothing else; reseeds; a session of its own; no
/// signal blocked. Files 0, 1 and 2 are `/dev/null`: the guest's streams have other numbers.
pub(super) fn clean(warm: &Warm, fork: &Fork<std::os::fd::OwnedFd>) -> Result<(), HygieneError> {
    nix::unistd::dup2_stdout(&warm.null).map_err(at("put /dev/null on file 1"))?;
    nix::unistd::dup2_stderr(&warm.null).map_err(at("put /dev/null on file 2"))?;
    close_others(allowed(warm, fork)).map_err(at("close foreign files"))?;
    // The engine's own random numbers for guests come from this generator, and a fork doubles its state.
    rand::rng().reseed().map_err(|error| at("reseed")(io::Error::other(error)))?;
    crate::zygote::unblock_signals().map_err(at("unblock signals"))?;
    // Fails only for the leader of a group, which a forked child is not: except that process 1 of a new pid namespace
    // finds itself in session 0 and may be told so by EPERM; it has no terminal either way.
    let _ = rustix::process::setsid();
    Ok(())
}

fn allowed(warm: &Warm, fork: &Fork<std::os::fd::OwnedFd>) -> Vec<RawFd> {
    let mut allowed = vec![0, 1, 2];
    allowed.extend(&warm.host_files);
    allowed.extend([&fork.report, &fork.status, &fork.plan].map(|file| file.as_raw_fd()));
    allowed.extend(fork.files.iter().map(|file| file.as_raw_fd()));
    // These have owners here that will drop them.
    allowed.push(fork.bundle.as_raw_fd());
    allowed.extend(fork.oom_counter.iter().map(|file| file.as_raw_fd()));
    if let PidNamespace::Join(file) = &fork.pid_namespace {
        allowed.push(file.as_raw_fd());
    }
    allowed.sort_unstable();
    allowed
}

fn close_others(allowed: Vec<RawFd>) -> io::Result<()> {
    for (first, last) in gaps(&allowed) {
        kernel::close_range(first, last)?;
    }
    Ok(())
}

/// Ranges of numbers between and after the sorted `allowed` ones.
fn gaps(allowed: &[RawFd]) -> Vec<(RawFd, RawFd)> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for &number in allowed {
        if number > next {
            gaps.push((next, number - 1));
        }
        next = number + 1;
    }
    gaps.push((next, RawFd::MAX));
    gaps
}

static REPORT: OnceLock<std::os::fd::OwnedFd> = OnceLock::new();

/// Sends panics of a child into its report; the zygote's own go to its stderr. Set once, in the zygote.
pub(crate) fn report_panics() {
    let to_stderr = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match REPORT.get() {
        Some(report) => {
            let message = Some(format!("Samara's own error: {panic}"));
            // The report is the last place there is.
            let _ = Report { oom: false, message }.write(report);
        }
        None => to_stderr(panic),
    }));
}

/// From now on a panic is reported here.
pub(super) fn report_panics_to(report: std::os::fd::OwnedFd) -> &'static std::os::fd::OwnedFd {
    REPORT.get_or_init(|| report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_between_and_after_the_allowed_numbers_is_closed() {
        assert_eq!(gaps(&[0, 1, 2, 5, 6, 9]), [(3, 4), (7, 8), (10, RawFd::MAX)]);
        assert_eq!(gaps(&[0, 0, 1]), [(2, RawFd::MAX)]);
        assert_eq!(gaps(&[]), [(0, RawFd::MAX)]);
    }
}
