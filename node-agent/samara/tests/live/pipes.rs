//! Readers that go away and disks that are full: what becomes of the guest, and of what it writes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use crate::machine::{Machine, p1};

/// Much more than a pipe holds.
const LARGE: usize = 2 << 20;

/// A directory to be mounted, with a large file in it and programs.
fn data(machine: &Machine) {
    std::fs::create_dir(machine.path("data")).unwrap();
    std::fs::write(machine.path("data/large"), "fifteen letters\n".repeat(LARGE / 16)).unwrap();
    for name in ["cat", "true"] {
        std::fs::copy(p1("toolbox"), machine.path("data").join(name)).unwrap();
    }
}

/// With a reader that goes away after one line.
fn one_line_of(machine: &Machine, args: &[&str]) -> (String, Child) {
    let mut child = machine.command(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (line, child)
}

fn code(machine: &Machine, mut child: Child) -> i32 {
    let mut ended = None;
    machine.until("it ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap().code().unwrap()
}

#[test]
fn a_guest_whose_reader_went_away_writes_on_into_its_log() {
    let machine = Machine::new();
    data(&machine);
    let run = ["run", "--name", "large", "-v", "./data:/data", &p1("toolbox"), "cat", "/data/large"];
    let (line, child) = one_line_of(&machine, &run);
    assert_eq!((line.as_str(), code(&machine, child)), ("fifteen letters\n", 0));
    assert_eq!(machine.good(&["logs", "large"]).len(), LARGE, "all of it");
}

#[test]
fn what_has_no_log_is_ended_when_its_reader_goes_away() {
    let machine = Machine::new();
    data(&machine);
    // It writes a line now and then, for ever.
    let (_, child) = one_line_of(&machine, &["run", "--rm", "--name", "spin", &p1("spin-cpu")]);
    assert_eq!(code(&machine, child), 143);
    assert_eq!(machine.status("spin"), "gone");
    machine.good(&["run", "-d", "--name", "box", "-v", "./data:/data", &p1("toolbox"), "sleep", "infinity"]);
    let (line, child) = one_line_of(&machine, &["exec", "box", "/data/cat", "/data/large"]);
    assert_eq!(line, "fifteen letters\n");
    // It may have written the last of it before it was asked to stop.
    assert!(matches!(code(&machine, child), 0 | 143));
    assert_eq!(machine.samara(&["exec", "box", "/data/true"]).code, 0, "the container is none the worse");
}

#[test]
fn a_container_whose_output_could_not_be_passed_on_is_kept_with_all_it_wrote() {
    let machine = Machine::new();
    data(&machine);
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = ["run", "--name", "large", "-v", "./data:/data", &p1("toolbox"), "cat", "/data/large"];
    let said = machine.command(&run).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let said = said.wait_with_output().unwrap();
    let told = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.code() == Some(125) && told.contains("pass the guest's output on: No space"), "{told}");
    let ended = &machine.json(&["inspect", "large"])[0]["state"];
    assert_eq!((&ended["status"], &ended["ended"]["exitCode"]), (&"exited".into(), &0.into()));
    assert_eq!(machine.good(&["logs", "large"]).len(), LARGE, "all of it");
    let removed = machine.command(&["run", "--rm", "--name", "rm", &p1("hello")]).stdout(full()).status().unwrap();
    assert_eq!((removed.code(), machine.status("rm").as_str()), (Some(125), "gone"), "that was asked for");
}

#[test]
fn verbs_that_print_for_ever_or_much_end_when_their_reader_goes_away() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "spin", &p1("spin-cpu")]);
    for verb in [&["stats"][..], &["attach", "spin"], &["logs", "-f", "spin"]] {
        let (_, child) = one_line_of(&machine, verb);
        assert_eq!(code(&machine, child), 0, "{verb:?}");
    }
    assert_eq!(machine.status("spin"), "running");
    let mut child = machine.command(&["completion", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(code(&machine, child), 0);
}

#[test]
fn a_file_that_is_named_makes_way_and_nothing_else_does() {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    let machine = Machine::new();
    machine.good(&["build", "-t", "localhost/hello:1", &p1("hello")]);
    machine.good(&["run", "--name", "hello", "-v", "data:/data", &p1("hello")]);
    std::fs::write(machine.path("root/volumes/data/file"), "text").unwrap();
    nix::unistd::mkfifo(&machine.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(machine.path("old"), "old").unwrap();
    symlink("old", machine.path("link")).unwrap();
    for verb in [&["save", "localhost/hello:1", "-o"][..], &["cp", "hello:/data/file"]] {
        let to = |target: &'static str| machine.samara(&[verb, &[target]].concat());
        let refused = to("fifo");
        assert_eq!(refused.code, 125, "{refused:?}");
        assert!(std::fs::metadata(machine.path("fifo")).unwrap().file_type().is_fifo(), "{verb:?}");
        assert_eq!(to("link").code, 0);
        assert!(machine.path("link").is_symlink() && machine.path("old").is_file(), "{verb:?}");
        assert_ne!(std::fs::read(machine.path("old")).unwrap(), b"old", "{verb:?}");
        std::fs::write(machine.path("old"), "old").unwrap();
    }
}

#[test]
fn signals_that_end_a_program_do_not_leave_a_guest_alone() {
    use rustix::process::{Pid, Signal, kill_process};
    let machine = Machine::new();
    let mut run = machine.command(&["run", "--rm", "--name", "spin", &p1("spin-cpu")]);
    let child = run.stdout(Stdio::null()).spawn().unwrap();
    machine.until("it runs", || machine.status("spin") == "running");
    let pid = Pid::from_child(&child);
    for signal in [Signal::USR1, Signal::USR2, Signal::QUIT] {
        kill_process(pid, signal).unwrap();
    }
    assert_eq!(code(&machine, child), 130, "the last is as Ctrl-C, those before mean nothing");
    assert_eq!(machine.status("spin"), "gone");
}
