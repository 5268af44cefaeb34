//! `samara`: one file, several programs, told apart by the name they are called by before any thread exists.

mod cli;
mod colour;
mod compiler;
mod container;
mod doctor;
mod format;
mod image;
mod kube;
mod manual;
mod node;
mod place;
mod run;
mod supervise;
mod system;
mod tell;
mod verbs;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use samara_runtime::code::worker;

use crate::supervise::monitor;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let program = Path::new(&name).file_name();
    if program == Some(OsStr::new(worker::NAME)) {
        return worker::main();
    }
    if program == Some(OsStr::new(monitor::NAME)) {
        return monitor::main(args);
    }
    if program == Some(OsStr::new(kube::node::NAME)) {
        return kube::node::main(args);
    }
    if let Some(code) = samara_shim::dispatch(&name, args) {
        return code;
    }
    cli::main()
}
