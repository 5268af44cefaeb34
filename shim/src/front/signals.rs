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

/// A number that is none of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signal {0} does not exist")]
pub struct UnknownSignal(pub u32);

/// The last realtime signal.
const LAST: i32 = 64;

/// By what the kernel does to a process that does not handle it (signal(7)): what would end it asks the guest to stop, for
/// an image may name any of those as its `STOPSIGNAL`.
pub(crate) fn meaning(signal: u32) -> Result<Meaning, UnknownSignal> {
    let number = i32::try_from(signal).unwrap_or(-1);
    match number {
        0 => Ok(Meaning::Probe),
        libc::SIGKILL | libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGCONT => {
            Ok(Meaning::Kernel(number))
        }
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH => Ok(Meaning::Ignore),
        1..=LAST => Ok(Meaning::Stop(u8::try_from(number).unwrap_or(15))),
        _ => Err(UnknownSignal(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_has_its_meaning() {
        let (kernel, ignored) = ([9, 18, 19, 20, 21, 22], [17, 23, 28]);
        for signal in 1..=64_u8 {
            let expected = match signal {
                _ if kernel.contains(&signal) => Meaning::Kernel(signal.into()),
                _ if ignored.contains(&signal) => Meaning::Ignore,
                _ => Meaning::Stop(signal),
            };
            assert_eq!(meaning(signal.into()), Ok(expected), "{signal}");
        }
        assert_eq!(meaning(0), Ok(Meaning::Probe));
        for none in [65, 128, u32::MAX] {
            assert_eq!(meaning(none), Err(UnknownSignal(none)));
        }
    }
}
