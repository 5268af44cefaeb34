//! A pod by containerd's Sandbox API: no pause image, and its containers in the front of the sandbox.

use std::fs;

use samara_tests::site::process::ProcessId;

use crate::daemon::{Daemon, until};

#[test]
fn containers_of_a_sandbox_share_its_front_and_all_of_it_goes() {
    let daemon = Daemon::start();
    let pod = daemon.home().join("pod.json");
    let config = r#"{"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "hostname": "p"}"#;
    fs::write(&pod, config).expect("pod.json");
    let runtime = daemon.runtime();
    let run = ["sandboxes", "run", "--runtime", &runtime, pod.to_str().expect("text"), "p1"];
    daemon.ctr(&run).succeeded();
    let front = daemon.front_pid();
    assert!(daemon.ctr(&["sandboxes", "ls"]).succeeded().contains("p1"));
    let ran = daemon.run(&["--rm", "--sandbox", "p1"], "c1", &["/bin/echo", "in a pod"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "in a pod\n"), "{}", ran.stderr);
    daemon.run(&["--detach", "--sandbox", "p1"], "c2", &["/bin/sleep", "infinity"]).succeeded();
    assert_eq!(daemon.front_pid(), front, "one front for all of the pod");
    let (pid, _) = daemon.task("c2").expect("a task");
    let guest = ProcessId::of(pid).expect("lives");
    daemon.ctr(&["task", "kill", "--signal", "SIGTERM", "c2"]).succeeded();
    until("stopped", || !guest.is_running());
    until("told", || daemon.task("c2").is_some_and(|(_, status)| status == "STOPPED"));
    assert_eq!(daemon.delete("c2"), 143);
    daemon.ctr(&["container", "delete", "c2"]).succeeded();
    assert_eq!(daemon.front_pid(), front, "the sandbox is there without containers");
    daemon.ctr(&["sandboxes", "rm", "--force", "p1"]).succeeded();
    daemon.nothing_is_left();
}
