//! Containers that are being started: they are up for everybody, and can be stopped.

use std::process::{Child, Stdio};

use crate::machine::{Machine, p1};

/// A module that takes long to compile, and then runs for ever.
fn slow(machine: &Machine) -> String {
    const FUNCTIONS: usize = 200;
    const STEPS: usize = 10_000;
    // Each adds to what is on the stack, and changes a local.
    let step = [0x20, 0, 0x41, 3, 0x6c, 0x21, 0, 0x20, 0, 0x6a];
    let mut body = vec![1, 1, 0x7f, 0x41, 0];
    body.extend(step.repeat(STEPS));
    body.extend([0x1a, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b]);
    let function = [number(body.len()), body].concat();
    let section = |id: u8, content: Vec<u8>| [vec![id], number(content.len()), content].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 0, 0]),
        section(3, [number(FUNCTIONS), vec![0; FUNCTIONS]].concat()),
        section(5, vec![1, 0, 1]),
        section(7, b"\x02\x06_start\0\0\x06memory\x02\0".to_vec()),
        section(10, [number(FUNCTIONS), function.repeat(FUNCTIONS)].concat()),
    ];
    std::fs::write(machine.path("slow.wasm"), module.concat()).unwrap();
    "./slow.wasm".to_owned()
}

/// As WebAssembly writes them: seven bits a byte, the lowest first.
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn spawn(machine: &Machine, args: &[&str]) -> Child {
    machine.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its exit code, output and errors.
fn ended(machine: &Machine, mut child: Child) -> (i32, String) {
    machine.until("it ends", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_is_being_started_is_not_removed_and_can_be_stopped() {
    let machine = Machine::new();
    let slow = slow(&machine);
    // On a machine that compiles faster than this looks it may run by now; all that follows must be as true then.
    let is_up = || matches!(machine.status("slow").as_str(), "starting" | "running");
    for detached in [true, false] {
        let run = if detached { &["run", "-d", "--name", "slow"][..] } else { &["run", "--name", "slow"][..] };
        let run = spawn(&machine, &[run, &[&slow]].concat());
        machine.until("it is being started", is_up);
        let refused = machine.samara(&["rm", "slow"]);
        assert!(refused.code == 1 && refused.err.contains("samara rm -f slow"), "{refused:?}");
        machine.good(&["system", "prune", "-f"]);
        assert!(is_up(), "{}", machine.status("slow"));
        machine.good(&["stop", "slow"]);
        assert_eq!(machine.status("slow"), "exited", "stopped is stopped");
        assert_eq!(machine.good(&["wait", "slow"]), "143\n");
        let (code, said) = ended(&machine, run);
        assert_eq!((code, said.as_str()), (if detached { 0 } else { 143 }, ""), "detached: {detached}");
        assert_eq!(machine.files("run/cli"), [""; 0]);
        let again = spawn(&machine, &["start", "slow"]);
        machine.until("it is being started again", is_up);
        machine.good(&["rm", "-f", "slow"]);
        assert_eq!(machine.status("slow"), "gone");
        ended(&machine, again);
    }
}

#[test]
fn several_who_start_a_container_at_once_start_it_once() {
    let machine = Machine::new();
    let (first, hold) = (p1("env-dump"), "--hold");
    machine.good(&["run", "-d", "--name", "env", &first, hold]);
    machine.good(&["stop", "env"]);
    let all: Vec<_> = (0..3).map(|_| spawn(&machine, &["start", "env"])).collect();
    for one in all {
        assert_eq!(ended(&machine, one), (0, String::new()));
    }
    assert_eq!(machine.status("env"), "running");
    machine.until("it has written", || machine.good(&["logs", "env"]).matches("HOSTNAME=").count() >= 2);
    assert_eq!(machine.good(&["logs", "env"]).matches("HOSTNAME=").count(), 2, "once before, once now");
}

#[test]
fn a_start_beside_an_attached_run_lets_it_be() {
    let machine = Machine::new();
    let run = spawn(&machine, &["run", "--name", "spin", &p1("spin-cpu")]);
    machine.until("it is there", || machine.status("spin") != "gone");
    machine.good(&["start", "spin"]);
    assert_eq!(machine.status("spin"), "running");
    machine.good(&["stop", "spin"]);
    assert_eq!(ended(&machine, run), (143, String::new()));
}
