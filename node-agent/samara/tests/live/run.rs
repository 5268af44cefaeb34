//! Attached containers.

use std::process::Stdio;

use crate::machine::{Machine, p1, p2};

#[test]
fn a_file_runs_with_its_arguments_and_leaves_nothing_with_rm() {
    let machine = Machine::new();
    let said = machine.samara(&["run", "--rm", &p1("hello"), "--rm", "-x"]);
    assert_eq!(said.out, "hello from samara\nargument: --rm\nargument: -x\n");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(machine.files("root/containers"), ["names"]);
    assert_eq!(machine.files("run/cli-io"), [""; 0]);
    assert_eq!(machine.good(&["run", "--rm", &p2("hello")]), "hello from samara\n");
}

#[test]
fn the_guests_exit_code_is_ours_and_a_trap_says_why() {
    let machine = Machine::new();
    assert_eq!(machine.samara(&["run", "--rm", &p1("exit-code"), "7"]).code, 7);
    let trap = machine.samara(&["run", "--name", "t", &p1("exit-code"), "trap"]);
    assert_eq!(trap.code, 134, "{trap:?}");
    assert_eq!(trap.err.matches("unreachable` instruction").count(), 1, "once: {trap:?}");
    let ended = &machine.json(&["ps", "-a", "--format", "json"])[0]["ended"];
    assert_eq!(ended["exitCode"], 134);
}

#[test]
fn too_much_memory_is_137_and_said() {
    let machine = Machine::new();
    assert_eq!(machine.samara(&["run", "--name", "hog", "-m", "32m", &p1("hog-memory")]).code, 137);
    assert!(machine.good(&["ps", "-a"]).contains("Exited (137, out of memory)"));
}

#[test]
fn input_is_passed_on_with_i_and_is_at_its_end_without() {
    let machine = Machine::new();
    let text = "line\n".repeat(50_000);
    assert_eq!(machine.fed(&["run", "--rm", "-i", &p1("toolbox"), "cat"], text.as_bytes()).out, text);
    assert_eq!(machine.fed(&["run", "--rm", &p1("toolbox"), "cat"], b"").out, "");
}

#[test]
fn the_environment_comes_from_flags_and_files() {
    let machine = Machine::new();
    std::fs::write(machine.path("vars"), "# comment\nA=file\nB=file\n").unwrap();
    let args = ["run", "--rm", "--env-file", "vars", "-e", "B=flag", "--hostname", "box", "-w", "/", &p1("env-dump")];
    let out = machine.good(&args);
    assert_eq!(out, "argument 0: env-dump.wasm\ndirectory: /\nA=file\nB=flag\nHOSTNAME=box\n");
}

#[test]
fn directories_volumes_and_memory_are_mounted() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("data")).unwrap();
    let run = |mount: &str| machine.samara(&["run", "--rm", "-v", mount, &p1("read-write")]);
    assert_eq!(run("./data:/data").code, 0);
    assert_eq!(run("./data:/data").code, 0);
    assert_eq!(std::fs::read_to_string(machine.path("data/count")).unwrap().trim(), "2");
    assert_ne!(run("./data:/data:ro").code, 0, "read-only is read-only");
    assert_eq!(run("named:/data").code, 0);
    assert!(machine.path("root/volumes/named/count").is_file());
    let memory = machine.samara(&["run", "--rm", "--mount", "type=tmpfs,target=/data", &p1("read-write")]);
    assert_eq!(memory.code, 0, "{memory:?}");
    let missing = machine.samara(&["run", "--rm", "-v", "new:/new", "-v", "./missing:/data", &p1("read-write")]);
    assert_eq!(missing.code, 125);
    assert!(!machine.path("root/volumes/new").exists());
    assert!(missing.err.contains("mkdir -p ./missing"), "{missing:?}");
    assert_eq!(machine.files("root/containers"), ["names"], "what could not be made is not there");
}

#[test]
fn an_interrupt_stops_the_guest_and_leaves_nothing_behind() {
    let machine = Machine::new();
    let mut command = machine.command(&["run", "--rm", "--name", "spin", &p1("spin-cpu")]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    machine.until("it runs", || machine.status("spin") == "running");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(machine.status("spin"), "gone");
}

#[test]
fn what_cannot_run_is_refused_with_what_to_do() {
    let machine = Machine::new();
    std::fs::write(machine.path("text.wasm"), "hello").unwrap();
    for (args, code, says) in [
        (&["run", "nowhere.wasm"][..], 125, "there is no file nowhere.wasm"),
        (&["run", "./text.wasm"], 125, "is not WebAssembly"),
        (&["run", "--pull=never", "registry.invalid/a:1"], 125, "samara pull registry.invalid/a:1"),
        (&["run", "--bogus", "a.wasm"], 2, "--bogus"),
        (&["run"], 2, "Usage"),
        (&["logs", "nobody"], 125, "samara ps -a"),
        (&["exec", "nobody", "/bin/ls"], 125, "samara ps -a"),
    ] {
        let said = machine.samara(args);
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert!(said.err.contains(says), "{args:?}: {said:?}");
    }
    assert!(machine.files("root/containers").iter().all(|name| name == "names"), "what never ran is not kept");
}
