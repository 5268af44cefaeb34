//! The guest's files: what a POSIX program in a container would find, and nothing outside of it.
//!
//! wasmtime-wasi walks paths with `RESOLVE_BENEATH`: nothing leaves the preopened root, but absolute symlinks, and
//! those with more `..` than there are directories, are refused although they lead to places inside the root. So the
//! path functions are shadowed: what wasmtime-wasi refuses as an escape is resolved once more as the kernel would with
//! the guest's root as `/` ([`resolve`]), and the resolved path is handed to the same function. That the result stays
//! inside is still proven by `RESOLVE_BENEATH`, not by the resolution.
//!
//! Relative paths: wasi-libc turns them into paths from `/` before they get here, in preview 1 and (with Rust 1.97's
//! libc) in preview 2, and keeps nothing by which they could be told from absolute ones. So where there is a working directory,
//! a path from the root is looked for in it first ([`root::Root::begin`]). It is also handed over as
//! `wasi:cli/environment.initial-cwd` and in `PWD`, which Go's runtime follows.

mod component;
mod errno;
mod module;
mod named;
mod resolve;
mod root;

pub(crate) use component::{Rooted as RootedComponent, shadow as shadow_component};
pub(crate) use module::{Rooted as RootedModule, shadow as shadow_module};
pub(crate) use root::{FileCalls, Root};
