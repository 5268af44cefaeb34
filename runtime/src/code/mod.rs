//! Compiled code: checked, made by a limited child process, kept in a cache only root can write.
//!
//! ```text
//!  wasm ──▶ worker process: check ▸ compile ▸ link once ──pipe──▶ parent ──▶ CodeCache ──▶ CodeFile ──▶ Host::load
//! ```
//!
//! Compiled code is native code. It is loaded only from a file that this module's own worker made: precompiled code
//! found in an image is refused by name.

mod cache;
mod compile;
mod digest;
mod file;
#[cfg(all(any(fuzzing, test), feature = "compile"))]
pub mod fuzzing;
#[cfg(feature = "compile")]
mod imports;
#[cfg(feature = "compile")]
mod inspect;
mod load;
#[cfg(feature = "compile")]
mod seclusion;
mod verified;
pub mod worker;

pub use cache::{CacheError, CodeCache};
pub use compile::{CompileError, CompileLimits, compile, ensure, ensure_within};
pub use file::CodeFile;
#[cfg(feature = "compile")]
pub use imports::{admit, functions, interfaces};
pub(crate) use load::Loaded;
