//! Compiled code: checked, made by a limited child process, kept in a cache only root can write.

mod cache;
mod compile;
pub mod worker;

pub use cache::{CacheError, CodeCache, CodeFile};
pub use compile::{CompileError, CompileLimits, compile, ensure};
