//! Limits, OOM and clean-up on pure cgroup v2: the shim's own tests, in a small machine with the distribution's kernel.
//!
//! Where the host itself has pure cgroup v2, those tests have run on it already and no machine is started. The machine is
//! qemu without hardware help, a Debian cloud kernel and an initramfs of this program (as its first process), the tests and
//! the libraries they need; nothing of it touches the host's disks or network.

mod host;
mod init;
mod initramfs;
mod outcome;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use outcome::Outcome;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return init::main();
    }
    let args = Arguments::from_args();
    let trials = match host::needed() {
        _ if args.list => Vec::new(),
        Ok(None) => vec![Trial::test("the_host_has_pure_cgroup_v2_and_the_shims_tests_ran_on_it", || Ok(()))],
        Ok(Some(plan)) => match host::boot(&plan) {
            Ok(outcomes) => outcomes.into_iter().map(trial).collect(),
            Err(error) => {
                let text = format!("{error:#}");
                vec![Trial::test("the_machine_with_pure_cgroup_v2_runs", move || Err(text.into()))]
            }
        },
        Err(why) => {
            eprintln!("{why:#}");
            vec![Trial::test("the_shims_tests_on_pure_cgroup_v2", || Ok(())).with_ignored_flag(true)]
        }
    };
    libtest_mimic::run(&args, trials).exit_code()
}

/// What a test in the machine came to, as a test of this one.
fn trial(outcome: Outcome) -> Trial {
    let name = format!("cgroup2::{}", outcome.name);
    Trial::test(name, move || match outcome.failure {
        None => Ok(()),
        Some(text) => Err(text.into()),
    })
}
