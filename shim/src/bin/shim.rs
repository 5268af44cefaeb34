//! The stand-alone shim: front, zygote or compile worker, by the name it is called.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_else(|| OsString::from(samara_shim_client::front::SHIM_NAME));
    if Path::new(&argv0).file_name().is_some_and(|name| name == samara_runtime::code::worker::NAME) {
        return samara_runtime::code::worker::main();
    }
    let args: Vec<OsString> = args.collect();
    // Any other name is that of a link to us.
    samara_shim::dispatch(&argv0, args.iter().cloned()).unwrap_or_else(|| samara_shim::front::main(args))
}
