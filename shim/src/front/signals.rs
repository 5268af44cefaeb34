//! What a signal means to a container. Pure.

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Look whether it lives, as `kill -0`.
    Probe,
    /// Ask it to end: 128 + this, if it does at once.
    Stop(u8),
    /// The kernel ends, stops or continues it.
    Kernel(i32),
    /// A hint that no guest can receive.
    Ignore,
}

/// A number that means nothing to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signal {0} is not supported")]
pub struct UnknownSignal(pub u32);

/// systemd's request to halt, the `STOPSIGNAL` of images that hold one.
const RTMIN_PLUS_3: u32 = 37;

/// Every signal that an image may name as its `STOPSIGNAL` asks a guest to stop.
pub(crate) fn meaning(signal: u32) -> Result<Meaning, UnknownSignal> {
    match i32::try_from(signal).unwrap_or(-1) {
        0 => Ok(Meaning::Probe),
        libc::SIGKILL | libc::SIGSTOP | libc::SIGCONT => Ok(Meaning::Kernel(signal.cast_signed())),
        libc::SIGHUP
        | libc::SIGINT
        | libc::SIGQUIT
        | libc::SIGABRT
        | libc::SIGUSR1
        | libc::SIGUSR2
        | libc::SIGPIPE
        | libc::SIGALRM
        | libc::SIGTERM
        | libc::SIGPWR => Ok(Meaning::Stop(u8::try_from(signal).unwrap_or(15))),
        _ if signal == RTMIN_PLUS_3 => Ok(Meaning::Stop(37)),
        libc::SIGWINCH | libc::SIGCHLD | libc::SIGURG => Ok(Meaning::Ignore),
        _ => Err(UnknownSignal(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_has_its_meaning() {
        let table = [
            (0, Ok(Meaning::Probe)),
            (1, Ok(Meaning::Stop(1))),
            (2, Ok(Meaning::Stop(2))),
            (9, Ok(Meaning::Kernel(9))),
            (15, Ok(Meaning::Stop(15))),
            (19, Ok(Meaning::Kernel(19))),
            (28, Ok(Meaning::Ignore)),
            (37, Ok(Meaning::Stop(37))),
            (11, Err(UnknownSignal(11))),
            (64, Err(UnknownSignal(64))),
            (u32::MAX, Err(UnknownSignal(u32::MAX))),
        ];
        for (signal, expected) in table {
            assert_eq!(meaning(signal), expected, "{signal}");
        }
    }
}
