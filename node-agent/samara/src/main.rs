//! `samara`: one file, several programs, told apart by the name they are called by before any thread exists.

mod cli;
mod compiler;
mod images;
mod node;
mod run;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use samara_runtime::code::worker;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new(worker::NAME)) {
        return worker::main();
    }
    if let Some(code) = samara_shim::dispatch(&name, args) {
        return code;
    }
    cli::main()
}
