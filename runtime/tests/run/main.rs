//! The runtime on real guests: what is compiled, run and served here takes the same way as in a node.
//!
//! The test program is also the compile worker, as the `samara` binary is.

use std::process::ExitCode;

mod commands;
mod compile;
mod files;
mod fork;
mod guest;
mod http;
mod http2;
mod http_limits;
mod limits;
mod namespace;
mod network;
mod outbound;
mod stop;
mod wasm;

/// Makes a list of trials from functions; each is named by its own name.
#[macro_export]
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(libtest_mimic::Trial::test(concat!(module_path!(), "::", stringify!($name)).replacen("run::", "", 1), || {
                $name();
                Ok(())
            })),*]
        }
    };
}

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    if name == samara_runtime::code::worker::NAME {
        return samara_runtime::code::worker::main();
    }
    if name == fork::ZYGOTE {
        return fork::zygote();
    }
    let arguments = libtest_mimic::Arguments::from_args();
    if !arguments.list {
        wasm::build();
    }
    let trials = [
        commands::trials(),
        compile::trials(),
        files::trials(),
        fork::trials(),
        http::trials(),
        http2::trials(),
        http_limits::trials(),
        limits::trials(),
        network::trials(),
        outbound::trials(),
        stop::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
