//! A real zygote, spoken to as a front speaks to it, and the containers it forks, looked at from outside and inside.
//!
//! The test program is also the zygote, the compile worker, and a zygote whose children do a test's bidding where the
//! guest would run (`probe`). Needs root.

use std::process::ExitCode;

mod container;
mod ends;
mod exec;
mod guests;
mod hygiene;
mod identity;
mod isolation;
mod life;
mod malformed;
mod mounts;
mod probe;
mod walls;
mod zygote;

/// Makes a list of trials from functions; each is named by its own name.
#[macro_export]
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(libtest_mimic::Trial::test(concat!(module_path!(), "::", stringify!($name)).replacen("zygote::", "", 1), || {
                $name();
                Ok(())
            })),*]
        }
    };
}

fn main() -> ExitCode {
    match std::env::args().next().unwrap_or_default().as_str() {
        samara_runtime::code::worker::NAME => return samara_runtime::code::worker::main(),
        samara_shim::zygote::protocol::NAME => return samara_shim::zygote::main(),
        probe::NAME => return probe::zygote(),
        _ => {}
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = [
        ends::trials(),
        exec::trials(),
        hygiene::trials(),
        identity::trials(),
        isolation::trials(),
        life::trials(),
        malformed::trials(),
        mounts::trials(),
        walls::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
