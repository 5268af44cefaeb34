//! A host is made before a fork and used after it.
#![expect(unsafe_code, reason = "a fork cannot be made otherwise")]

use std::collections::HashSet;
use std::io::Read as _;
use std::process::{Command, ExitCode};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rand::RngExt as _;
use samara_runtime::{CodeFile, Host, HostConfig, Output, Stop, World, fork as hygiene};

use crate::wasm;

crate::trials![children_of_one_host_run_guests_and_draw_different_numbers];

/// Name under which this program plays the zygote.
pub(crate) const ZYGOTE: &str = "samara-test-zygote";

const CHILDREN: usize = 30;

fn children_of_one_host_run_guests_and_draw_different_numbers() {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::process::CommandExt as _;
    let code = wasm::compiled(&wasm::component("probe")).unwrap().into_fd();
    // Passed on by number, as the shim does.
    rustix::io::fcntl_setfd(&code, rustix::io::FdFlags::empty()).unwrap();
    let output = Command::new(wasm::exe()).arg0(ZYGOTE).arg(code.as_raw_fd().to_string()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), CHILDREN);
    for column in 0..3 {
        let drawn: HashSet<_> = lines.iter().map(|line| line.split(' ').nth(column).unwrap()).collect();
        let expected = if column == 0 { 1 } else { CHILDREN };
        assert_eq!(drawn.len(), expected, "column {column}: {text}");
    }
}

/// Prints a line for each child: what it would draw without reseeding, what it draws, what its guest draws.
pub(crate) fn zygote() -> ExitCode {
    let fd: i32 = std::env::args().nth(1).unwrap().parse().unwrap();
    // SAFETY: the parent left this descriptor open for us and nobody else here knows it.
    let code = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
    let code = CodeFile::from_verified(code);
    let host = Host::new(&HostConfig::default()).unwrap();
    // The generator has state by now, which every child inherits.
    let _: u64 = rand::rng().random();
    for _ in 0..CHILDREN {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: this process has one thread.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let inherited: u64 = rand::rng().clone().random();
                hygiene::reseed().unwrap();
                let own: u64 = rand::rng().random();
                let guest = random_of_a_guest(&host, code);
                println!("{inherited} {own} {guest}");
                drop(writer);
                std::process::exit(0);
            }
            ForkResult::Parent { child } => {
                drop(writer);
                // One after the other, so that lines stay whole.
                reader.read_to_end(&mut Vec::new()).unwrap();
                assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0))));
            }
        }
    }
    ExitCode::SUCCESS
}

fn random_of_a_guest(host: &Host, code: CodeFile) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let world = World { args: vec!["probe".into(), "random".into()], stdout: Output::raw(writer), ..World::default() };
    let exit = host.load(code).unwrap().run(host, world, Stop::new().1);
    assert_eq!(exit.code, 0, "{exit:?}");
    let mut drawn = String::new();
    reader.read_to_string(&mut drawn).unwrap();
    drawn.trim().to_owned()
}
