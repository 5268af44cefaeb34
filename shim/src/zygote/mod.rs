//! The zygote: a single-threaded process with a warm engine that forks containers and is their parent.

pub mod protocol;
mod start;
pub(crate) mod wire;

pub use start::{connect, listen, start};
