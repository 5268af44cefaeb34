//! What dies, and what goes on.

use rustix::process::Signal;
use samara_tests::site::process::ProcessId;

use crate::daemon::{Daemon, until};

#[test]
fn a_task_goes_on_while_containerd_is_killed_and_started_again() {
    let mut daemon = Daemon::start();
    daemon.run(&["--detach"], "c1", &["/bin/sleep", "infinity"]).succeeded();
    let (pid, _) = daemon.task("c1").expect("a task");
    let (guest, front) = (ProcessId::of(pid).expect("lives"), daemon.front_pid());
    daemon.restart();
    assert_eq!(daemon.task("c1"), Some((pid, "RUNNING".into())));
    assert!(guest.is_running());
    assert_eq!(daemon.front_pid(), front);
    daemon.exec("c1", "e1", &["/bin/echo", "still here"]).succeeded();
    daemon.ctr(&["task", "kill", "--signal", "SIGTERM", "c1"]).succeeded();
    until("stopped", || daemon.task("c1").is_some_and(|(_, status)| status == "STOPPED"));
    assert_eq!(daemon.delete("c1"), 143);
    daemon.ctr(&["container", "delete", "c1"]).succeeded();
    daemon.nothing_is_left();
}

#[test]
fn an_end_while_containerd_was_away_is_found_with_its_code() {
    let mut daemon = Daemon::start();
    daemon.run(&["--detach"], "c1", &["/bin/sleep", "infinity"]).succeeded();
    let (pid, _) = daemon.task("c1").expect("a task");
    let guest = ProcessId::of(pid).expect("lives");
    daemon.while_it_is_away(|| guest.kill().expect("killed"));
    until("stopped", || daemon.task("c1").is_some_and(|(_, status)| status == "STOPPED"));
    assert_eq!(daemon.delete("c1"), 137);
    daemon.ctr(&["container", "delete", "c1"]).succeeded();
    daemon.nothing_is_left();
}

#[test]
fn when_a_front_dies_containerd_ends_its_task_and_nothing_is_left() {
    let daemon = Daemon::start();
    daemon.run(&["--detach"], "c1", &["/bin/sleep", "infinity"]).succeeded();
    let (pid, _) = daemon.task("c1").expect("a task");
    let guest = ProcessId::of(pid).expect("lives");
    ProcessId::of(daemon.front_pid()).expect("lives").signal(Signal::KILL).expect("killed");
    until("the task is over", || daemon.task("c1").is_none_or(|(_, status)| status == "STOPPED"));
    until("the guest is over", || !guest.is_running());
    daemon.ctr(&["task", "delete", "c1"]);
    daemon.ctr(&["container", "delete", "c1"]).succeeded();
    daemon.nothing_is_left();
    daemon.run(&["--rm"], "c1", &["/bin/echo", "again"]).succeeded();
}
