//! At a terminal, and in a pipe.

use crate::machine::{Machine, p1};
use crate::pty::{Pty, size_at};
use crate::registry::{PASSWORD, Registry, USER};
use crate::slow;

#[test]
fn a_pull_draws_a_bar_on_a_terminal_and_writes_a_line_into_a_pipe() {
    let (machine, registry) = (Machine::new(), Registry::start());
    let name = registry.image("team/hello:v1");
    machine.fed(&["login", "-u", USER, "--password-stdin", registry.host()], PASSWORD.as_bytes());
    let pushed = machine.good(&["push", &p1("hello"), &name]);
    let mut pull = Pty::run(&machine.command(&["pull", &name]));
    assert_eq!(pull.ended(), 0);
    pull.until(pushed.trim());
    assert!(pull.seen().contains(&format!("fetching {name} [")), "{:?}", pull.seen());
    machine.good(&["rmi", &name]);
    let piped = machine.samara(&["pull", &name]);
    assert_eq!((piped.code, &piped.out), (0, &pushed));
    assert!(piped.err.starts_with(&format!("fetching {name} (")) && piped.err.lines().count() == 1, "{piped:?}");
    assert!(!piped.err.contains(['\x1b', '\r']), "{piped:?}");
    let again = machine.samara(&["pull", "-q", &name]);
    assert_eq!((again.out, again.err), (pushed, String::new()));
}

#[test]
fn a_push_draws_a_bar_on_a_terminal_and_writes_a_line_into_a_pipe() {
    let (machine, registry) = (Machine::new(), Registry::start());
    let name = registry.image("team/hello:v1");
    machine.fed(&["login", "-u", USER, "--password-stdin", registry.host()], PASSWORD.as_bytes());
    let mut push = Pty::run(&machine.command(&["push", &p1("hello"), &name]));
    assert_eq!(push.ended(), 0);
    push.until("/team/hello@sha256:");
    assert!(push.seen().contains(&format!("sending {name} [")), "{:?}", push.seen());
    let piped = machine.samara(&["push", &p1("hello"), &name]);
    assert!(piped.out.contains("/team/hello@sha256:") && piped.out.lines().count() == 1, "{piped:?}");
    assert!(piped.err.starts_with(&format!("sending {name} (")) && piped.err.lines().count() == 1, "{piped:?}");
    let quiet = machine.samara(&["push", "-q", &p1("hello"), &name]);
    assert_eq!((quiet.out, quiet.err), (piped.out, String::new()));
}

#[test]
fn ctrl_c_ends_a_pull_and_nothing_half_done_is_left() {
    let machine = Machine::new();
    let name = slow::start();
    let mut pull = Pty::run(&machine.command(&["pull", &name]));
    pull.until("4.00 MiB/8.00 MiB");
    pull.type_in("\x03");
    assert_eq!(pull.ended(), 130);
    assert!(!pull.seen().contains("samara:"), "who pressed the keys needs no explanation: {:?}", pull.seen());
    let half_done = || machine.files("root/images/tmp").into_iter().filter(|name| name != "lock").collect::<Vec<_>>();
    assert_eq!(half_done(), [""; 0]);
    assert_eq!(machine.good(&["images", "-q"]), "");
    assert_eq!(machine.files("root/images/blobs/sha256").len(), 1, "the configuration was whole, for the next try");
    // `run` fetches too.
    let mut run = Pty::run(&machine.command(&["run", "--rm", &name]));
    run.until("4.00 MiB/8.00 MiB");
    run.type_in("\x03");
    assert_eq!(run.ended(), 130);
    assert_eq!(half_done(), [""; 0]);
    assert_eq!(machine.good(&["ps", "-aq"]), "");
}

#[test]
fn a_guest_at_a_terminal_hears_its_keys_and_knows_its_size() {
    let machine = Machine::new();
    let mut run = Pty::run(&machine.command(&["run", "-it", "--rm", "--name", "cat", &p1("toolbox"), "cat"]));
    machine.until("it runs", || machine.status("cat") == "running");
    run.type_in("hello\r");
    // What was typed, and what the guest made of it.
    run.until("hello\r\nhello\r\n");
    let pid = machine.json(&["inspect", "cat"])[0]["state"]["pid"].as_u64().unwrap();
    machine.until("its terminal is as large as ours", || size_at(pid) == (100, 40));
    run.resize((120, 50));
    machine.until("its terminal follows ours", || size_at(pid) == (120, 50));
    // The end of its input.
    run.type_in("\x04");
    assert_eq!(run.ended(), 0);
    assert_eq!(machine.status("cat"), "gone");
}

#[test]
fn ctrl_c_at_its_terminal_ends_a_guest() {
    let machine = Machine::new();
    let mut run = Pty::run(&machine.command(&["run", "-it", "--name", "spin", &p1("spin-cpu")]));
    machine.until("it runs", || machine.status("spin") == "running");
    run.type_in("\x03");
    assert_eq!(run.ended(), 130);
    assert_eq!(machine.status("spin"), "exited");
    machine.good(&["run", "-d", "-it", "--name", "cat", &p1("toolbox"), "cat"]);
    let mut attach = Pty::run(&machine.command(&["attach", "cat"]));
    attach.type_in("hello\r");
    attach.until("hello\r\nhello\r\n");
    attach.type_in("\x03");
    assert_eq!(attach.ended(), 130);
    assert_eq!(machine.status("cat"), "exited");
}

#[test]
fn ctrl_p_ctrl_q_leaves_a_container_that_runs_on() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "-it", "--name", "cat", &p1("toolbox"), "cat"]);
    let mut attach = Pty::run(&machine.command(&["attach", "cat"]));
    attach.type_in("hello\r");
    attach.until("hello\r\nhello\r\n");
    attach.type_in("\x10\x11");
    assert_eq!(attach.ended(), 0);
    attach.until("left cat, which runs on");
    assert_eq!(machine.status("cat"), "running");
}

#[test]
fn words_that_matter_are_coloured_on_a_terminal_alone() {
    let machine = Machine::new();
    machine.samara(&["run", "--name", "seven", &p1("exit-code"), "7"]);
    let shown = |args: &[&str], word: &str| {
        let mut coloured = Pty::run(&machine.command(args));
        coloured.ended();
        coloured.until(word);
        let mut plain = Pty::run(machine.command(args).env("NO_COLOR", "1"));
        plain.ended();
        let word: String = word.split('\x1b').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
        plain.until(&word);
        assert!(!plain.seen().contains('\x1b'), "NO_COLOR: {:?}", plain.seen());
        let piped = machine.samara(args);
        assert!(!(piped.out + &piped.err).contains('\x1b'), "{args:?}");
    };
    shown(&["ps", "-a"], "\x1b[1m\x1b[31mExited (7)");
    shown(&["doctor"], "\x1b[32mok\x1b[0m");
    shown(&["logs", "nobody"], "\x1b[1m\x1b[31msamara:\x1b[0m");
}
