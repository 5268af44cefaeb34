//! The live suite: every test is a sentence about pods on a real control plane.
//!
//! One control plane and one node serve all tests; each test has a namespace of its own, and those that kill or configure
//! an agent start a node of their own. What a failed test leaves behind is in `target/live/<test>/`.

mod artifacts;
mod images;
mod l1;
mod l2;
mod l3;
mod trial;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use samara_tests::forward;

fn main() -> ExitCode {
    if let Some(code) = forward::main_if_asked() {
        return code;
    }
    let mut args = Arguments::from_args();
    // Tests wait more than they work.
    args.test_threads.get_or_insert(6);
    let tests = [artifacts::tests(), images::tests(), l1::tests(), l2::tests(), l3::tests()].concat();
    trial::run(&args, tests)
}
