//! What this process is asked by its terminal, its user, its session.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, from now on. SIGUSR1 and SIGUSR2, which mean nothing here, end nobody: the guest
/// would be left without a supervisor.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
    _ignored: [Signal; 2],
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            _ignored: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Number of the next one; SIGQUIT, which comes by a key as SIGINT does, is as that. Cancel by dropping.
    pub(crate) async fn next(&mut self) -> u32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.quit.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}
