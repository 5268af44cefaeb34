//! The compile worker: wasm on file 0, code on file 1, error text on file 2.

/// `argv[0]` by which the binary knows that it is the compile worker.
pub const NAME: &str = "samara-compile";

/// The whole life of the worker process; returns its exit code.
pub fn main() -> std::process::ExitCode {
    todo!()
}
