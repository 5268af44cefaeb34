//! Ctrl-C while something is fetched: what is half done goes before we do.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The event loop takes a signalfd only with an unsafe promise, which is not worth it here: a person does not see the difference.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// A signal ended the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by signal {0}")]
pub(crate) struct Interrupted(pub(crate) u8);

/// Does the work to its end, or drops it at the first signal. Before and after that a signal means what it always does.
/// Threads that the work needs have to be started by it: one that is there already would be killed by the signal, and all with it.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let held = Held::back().context("hear of signals")?;
    tokio::select! {
        biased;
        done = work => done,
        signal = held.next() => Err(Interrupted(signal.context("hear of signals")?).into()),
    }
}

/// Signals that are kept from this thread, and from those that it starts meanwhile, and are read instead.
struct Held {
    mask: SigSet,
    signals: SignalFd,
}

impl Held {
    fn back() -> io::Result<Self> {
        let mask: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        mask.thread_block()?;
        Ok(Self { mask, signals })
    }

    /// Cancel by dropping.
    async fn next(&self) -> io::Result<u8> {
        loop {
            if let Some(signal) = self.signals.read_signal()? {
                return Ok(u8::try_from(signal.ssi_signo).unwrap_or(0));
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What came meanwhile is delivered now.
        let _ = self.mask.thread_unblock();
    }
}
