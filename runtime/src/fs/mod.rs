//! The guest's files: what a POSIX program in a container would find, and nothing outside of it.
//!
//! wasmtime-wasi walks paths with `RESOLVE_BENEATH`: nothing leaves the preopened root, but absolute symlinks, and
//! those with more `..` than there are directories, are refused although they lead to places inside the root. So the
//! path functions are shadowed: what wasmtime-wasi refuses as an escape is resolved once more as the kernel would with
//! the guest's root as `/` ([`resolve`]), and the resolved path is handed to the same function. That the result stays
//! inside is still proven by `RESOLVE_BENEATH`, not by the resolution.
//!
//! Relative paths: wasi-libc turns them into paths from `/` before they get here; preview 1 has no notion of a
//! directory to begin at, so `cwd` reaches only components (`wasi:cli/environment.initial-cwd`).

mod component;
mod module;
mod resolve;
mod root;

pub(crate) use component::{Rooted as RootedComponent, shadow as shadow_component};
pub(crate) use module::{Rooted as RootedModule, shadow as shadow_module};
pub(crate) use root::Root;
