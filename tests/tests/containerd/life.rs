//! A task's whole life by containerd's single calls.

use std::fs;
use std::process::Stdio;

use samara_tests::site::process::ProcessId;

use crate::daemon::{Daemon, until};

#[test]
fn a_task_is_entered_measured_held_let_go_and_ended() {
    let daemon = Daemon::start();
    daemon.run(&["--detach"], "c1", &["/bin/sleep", "infinity"]).succeeded();
    let (pid, status) = daemon.task("c1").expect("a task");
    assert_eq!(status, "RUNNING");
    let guest = ProcessId::of(pid).expect("lives");

    let ran = daemon.exec("c1", "e1", &["/bin/cat", "/greeting"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from the image\n"), "{}", ran.stderr);
    assert_eq!(daemon.exec("c1", "e2", &["/bin/exit-code", "9"]).code, Some(9));

    let metrics = daemon.ctr(&["task", "metrics", "c1"]).succeeded();
    let value = |names: [&str; 2]| {
        let mut lines = metrics.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|words| words.first().is_some_and(|name| names.contains(name)));
        line.and_then(|words| words.last()?.parse::<u64>().ok()).unwrap_or_else(|| panic!("{names:?} in {metrics}"))
    };
    assert!(value(["memory.usage_in_bytes", "memory.usage"]) > 0);
    assert!(value(["pids.current", "pids.current"]) > 0);
    assert!(value(["cpuacct.usage", "cpu.usage_usec"]) > 0);
    assert!(daemon.ctr(&["task", "ps", "c1"]).succeeded().contains(&pid.to_string()));

    daemon.ctr(&["task", "pause", "c1"]).succeeded();
    assert_eq!(daemon.task("c1"), Some((pid, "PAUSED".into())));
    daemon.ctr(&["task", "resume", "c1"]).succeeded();
    assert_eq!(daemon.task("c1"), Some((pid, "RUNNING".into())));

    daemon.ctr(&["task", "kill", "--signal", "SIGTERM", "c1"]).succeeded();
    until("stopped", || daemon.task("c1").is_some_and(|(_, status)| status == "STOPPED"));
    assert!(!guest.is_running());
    assert_eq!(daemon.delete("c1"), 143);
    daemon.ctr(&["container", "delete", "c1"]).succeeded();
    daemon.nothing_is_left();
}

#[test]
fn containerd_hears_of_all_that_happens_in_its_order() {
    let daemon = Daemon::start();
    let path = daemon.home().join("events");
    let mut listener = daemon.command(&["events"]);
    listener.stdin(Stdio::null()).stdout(fs::File::create(&path).expect("file")).stderr(Stdio::null());
    let mut listener = listener.spawn().expect("ctr");
    let seen = || fs::read_to_string(&path).expect("events");
    let mut number = 0;
    until("it listens", || {
        number += 1;
        daemon.ctr(&["image", "label", crate::image::IMAGE, &format!("n={number}")]).succeeded();
        !seen().is_empty()
    });
    daemon.run(&["--detach"], "c1", &["/bin/sleep", "infinity"]).succeeded();
    daemon.exec("c1", "e1", &["/bin/echo", "x"]).succeeded();
    daemon.ctr(&["task", "pause", "c1"]).succeeded();
    daemon.ctr(&["task", "resume", "c1"]).succeeded();
    daemon.ctr(&["task", "kill", "--signal", "SIGKILL", "c1"]).succeeded();
    until("stopped", || daemon.task("c1").is_some_and(|(_, status)| status == "STOPPED"));
    daemon.ctr(&["task", "delete", "c1"]);
    let topics = || {
        let text = seen();
        let topic = |line: &str| line.split(' ').find(|word| word.starts_with("/tasks/")).map(str::to_owned);
        text.lines().filter_map(topic).collect::<Vec<_>>()
    };
    let expected =
        ["create", "start", "exec-added", "exec-started", "exit", "delete", "paused", "resumed", "exit", "delete"];
    until("all events", || topics().len() >= expected.len());
    assert_eq!(topics(), expected.map(|name| format!("/tasks/{name}")));
    listener.kill().expect("killed");
    listener.wait().expect("reaped");
}
