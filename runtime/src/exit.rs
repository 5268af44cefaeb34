//! How a guest ended.

/// The end of a guest, in the terms of a container's exit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// The guest's own code modulo 256; 134 after a trap; 137 when memory ran out; 143 when it was stopped.
    pub code: u8,
    /// Its memory limit was reached.
    pub oom: bool,
    /// What a person would want to read in the status: a trap's first line, the limit that was reached.
    pub message: Option<String>,
}

impl Exit {
    /// What a trap ends with, as `abort` would (128 + SIGABRT).
    pub const TRAP: u8 = 134;
    /// What a reached memory limit ends with (128 + SIGKILL).
    pub const OUT_OF_MEMORY: u8 = 137;

    /// The guest's own code; only the low byte counts, as for any process.
    pub(crate) fn own(code: i32) -> Self {
        Self { code: (code & 0xff) as u8, ..Self::default() }
    }

    pub(crate) fn trap(message: impl Into<String>) -> Self {
        Self { code: Self::TRAP, oom: false, message: Some(message.into()) }
    }

    pub(crate) fn out_of_memory(message: impl Into<String>) -> Self {
        Self { code: Self::OUT_OF_MEMORY, oom: true, message: Some(message.into()) }
    }

    /// Could not be set up: 128, as container runtimes say it.
    pub(crate) fn not_started(message: impl Into<String>) -> Self {
        Self { code: 128, oom: false, message: Some(message.into()) }
    }
}
