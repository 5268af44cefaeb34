//! Detached containers: started, looked at, stopped, started again.

use crate::machine::{Machine, p1};

#[test]
fn a_detached_container_lives_on_and_is_stopped_and_started_again() {
    let machine = Machine::new();
    let id = machine.good(&["run", "-d", "--name", "env", &p1("env-dump"), "--hold"]);
    assert_eq!(id.trim().len(), 64);
    assert_eq!(machine.status("env"), "running");
    machine.until("its output is in the log", || machine.good(&["logs", "env"]).contains("HOSTNAME="));
    assert_eq!(machine.good(&["stop", "env"]), "env\n");
    assert_eq!(machine.status("env"), "exited");
    assert_eq!(machine.good(&["wait", "env"]), "143\n");
    machine.good(&["start", &id[..8]]);
    assert_eq!(machine.status("env"), "running");
    machine.good(&["restart", "-t", "0", "env"]);
    assert_eq!(machine.status("env"), "running");
    let refused = machine.samara(&["rm", "env"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("samara rm -f env"), "{refused:?}");
    machine.good(&["rm", "-f", "env"]);
    assert_eq!(machine.status("env"), "gone");
}

#[test]
fn one_that_fails_is_started_again_as_often_as_was_said() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "loop", "--restart", "on-failure:2", &p1("crash-loop")]);
    assert_eq!(machine.good(&["wait", "loop"]), "1\n");
    let container = &machine.json(&["ps", "-a", "--format", "json"])[0];
    assert_eq!((&container["restarts"], &container["status"]), (&2.into(), &"exited".into()));
    let said = machine.samara(&["logs", "loop"]);
    assert_eq!(said.out.lines().count(), 3, "each life's output: {said:?}");
    assert_eq!(said.err.lines().count(), 3);
}

#[test]
fn stop_ends_restarts() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "loop", "--restart", "always", &p1("crash-loop")]);
    machine.until("it waits for a restart", || machine.status("loop") == "restarting");
    machine.good(&["stop", "loop"]);
    assert_eq!(machine.status("loop"), "exited");
    assert_eq!(machine.files("run/cli"), [""; 0]);
}

#[test]
fn a_container_outlives_its_monitor_and_its_front() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "spin", "--restart", "always", &p1("spin-cpu")]);
    let state = machine.json(&["inspect", "spin"])[0]["state"].clone();
    kill(&state["supervisor"]["pid"]);
    assert_eq!(machine.status("spin"), "running");
    let front = machine.files("run/cli").remove(0);
    let lock = std::fs::read_to_string(machine.path("run/cli").join(front).join("lock")).unwrap();
    kill(&lock.trim().parse::<i32>().unwrap().into());
    assert_eq!(machine.status("spin"), "running");
    assert_eq!(machine.json(&["stats", "--no-stream", "--format", "json"])[0]["name"], "spin");
    machine.good(&["stop", "spin"]);
    assert_eq!(machine.status("spin"), "exited");
    assert_eq!(machine.good(&["wait", "spin"]), "143\n");
    machine.good(&["start", "spin"]);
    assert_eq!(machine.status("spin"), "running");
}

fn kill(pid: &serde_json::Value) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn names_are_taken_once_and_a_start_that_fails_leaves_nothing() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--name", "a", &p1("env-dump"), "--hold"]);
    let taken = machine.samara(&["run", "-d", "--name", "a", &p1("env-dump")]);
    assert_eq!(taken.code, 125);
    assert!(taken.err.contains("samara rm a"), "{taken:?}");
    std::fs::write(machine.path("bad.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let bad = machine.samara(&["run", "-d", "--name", "b", "./bad.wasm"]);
    assert_eq!(bad.code, 125);
    assert!(bad.err.contains("exports no function _start"), "{bad:?}");
    assert_eq!(machine.status("b"), "gone");
}

#[test]
fn with_rm_a_detached_container_goes_when_it_has_ended() {
    let machine = Machine::new();
    machine.good(&["run", "-d", "--rm", "--name", "spin", &p1("spin-cpu")]);
    let wait = machine.command(&["wait", "spin"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    machine.good(&["kill", "-s", "TERM", "spin"]);
    let waited = wait.wait_with_output().unwrap();
    assert!(matches!(&waited.stdout[..], b"143\n" | b""), "{waited:?}");
    machine.until("it is gone", || machine.status("spin") == "gone");
}
