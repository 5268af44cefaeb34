//! The Wasm host of Samara: compiled code, engine, guests and the world they see.
//!
//! Knows neither Kubernetes nor containerd, and never forks. The order in which a guest meets the parts:
//!
//! 1. [`code`]: wasm is checked and compiled once by a limited child process and kept in the [`CodeCache`].
//! 2. [`Host`]: engine and linkers, made before any fork: no threads, no tokio runtime.
//! 3. [`Host::load`]: the child maps the compiled code and gets a [`Program`].
//! 4. [`Program::run`]: the guest runs in its [`World`] until it ends or is asked to [`Stop`]; the result is an [`Exit`].

pub mod code;
mod engine;
mod exit;
pub mod fork;
mod fs;
mod guest;
mod host;
mod http;
mod net;
mod program;
mod stdio;
mod stop;
mod world;

pub use code::{CodeCache, CodeFile, CompileError};
pub use exit::Exit;
pub use host::{Host, HostConfig, HostError, LoadError};
pub use program::{Kind, Program};
pub use stop::{Stop, StopAction, StopHandle};
pub use world::{Dns, Http, Network, OnListen, Output, Stdin, Stream, World};
