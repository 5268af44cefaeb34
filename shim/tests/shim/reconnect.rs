//! A front whose connection to a container was lost makes another.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use samara_shim::container::control;
use samara_shim_client::Status;

use crate::bundle::Container;
use crate::guests;
use crate::node::{Node, SOON, until};

/// Takes the front's place for a moment. It is told so by the end of its connection.
async fn take_the_fronts_place(container: &Container) {
    drop(control::connect(&container.dir).await.expect("control socket"));
}

#[tokio::test]
async fn a_container_can_be_stopped_after_its_connection_was_lost() {
    let node = Node::start().await;
    let container = node.container(&guests::sleeper());
    node.run(&container).await;
    take_the_fronts_place(&container).await;
    node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
}

#[tokio::test]
async fn a_log_is_rotated_after_the_connection_was_lost() {
    let node = Node::start().await;
    let mut container = node.container(&guests::sleeper());
    container.log.max_size = Some(1);
    let pid = node.run(&container).await;
    take_the_fronts_place(&container).await;
    let dir = container.log.path.parent().expect("directory");
    until("rotated, and the guest has the new file", || {
        let files = fs::read_dir(dir).expect("logs").count();
        (files > 1 && has_open(pid, &container.log.path)).then_some(())
    })
    .await;
}

/// Whether the process has the file open that is at the path now.
fn has_open(pid: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("lives");
    open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|file| file == path))
}

#[tokio::test]
async fn a_log_that_could_not_be_handed_over_is_offered_again() {
    let node = Node::start().await;
    let mut container = node.container(&guests::sleeper());
    container.log.max_size = Some(1_000_000);
    let pid = node.run(&container).await;
    until("it writes", || (!container.records().is_empty()).then_some(())).await;
    let [socket, aside] = ["control.sock", "aside"].map(|name| container.dir.join(name));
    let other = control::connect(&container.dir).await.expect("control socket");
    fs::rename(&socket, &aside).expect("out of reach");
    drop(other);
    fs::remove_file(&container.log.path).expect("removed");
    until("the hand-over has failed", || node.log().contains("rotate").then_some(())).await;
    assert!(container.log.path.exists() && !has_open(pid, &container.log.path));
    fs::rename(&aside, &socket).expect("in reach");
    until("the guest has the new file", || has_open(pid, &container.log.path).then_some(())).await;
}

#[tokio::test]
async fn a_log_that_one_front_could_not_hand_over_is_handed_over_by_the_next() {
    let mut node = Node::start().await;
    let mut container = node.container(&guests::sleeper());
    container.log.max_size = Some(1_000_000);
    let pid = node.run(&container).await;
    until("it writes", || (!container.records().is_empty()).then_some(())).await;
    crate::node::kill(node.front_pid());
    // As it is when the front ends between the two.
    fs::rename(&container.log.path, container.log.path.with_extension("rotated")).expect("renamed");
    fs::write(&container.log.path, "").expect("made");
    node.restart().await;
    until("the guest has the new file", || has_open(pid, &container.log.path).then_some(())).await;
}

#[tokio::test]
async fn a_guest_that_took_all_descriptors_is_connected_to_its_log_rotated_and_stopped() {
    let node = Node::start().await;
    let mut container = Container::with_root(node.home(), &[("/app", &guests::opener())]).args(&["/app"]);
    container.config["process"]["rlimits"] = serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]);
    container.log.max_size = Some(1_000_000);
    let pid = node.run(&container).await;
    until("full", || (container.records() == ["stdout F full"]).then_some(())).await;
    take_the_fronts_place(&container).await;
    fs::remove_file(&container.log.path).expect("removed");
    until("the guest has the new file", || has_open(pid, &container.log.path).then_some(())).await;
    node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
}

/// Ticks of the processor that the control thread of a container has used.
fn ticks_of_control_thread(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("lives").flatten().map(|thread| thread.path());
    let is_control =
        |thread: &std::path::PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "control\n");
    let thread = threads.into_iter().find(is_control).expect("a control thread");
    let stat = fs::read_to_string(thread.join("stat")).expect("stat");
    // User and system time, the 14th and 15th field; the second ends with the last parenthesis.
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[tokio::test]
async fn a_front_that_cannot_be_let_in_costs_nothing_and_is_let_in_when_it_can() {
    let node = Node::start().await;
    let mut container = node.container(&guests::sleeper());
    container.config["process"]["rlimits"] = serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]);
    let pid = node.run(&container).await;
    until("it runs", || (!container.records().is_empty()).then_some(())).await;
    let limit = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(64) };
        prlimit(Pid::from_raw(pid.cast_signed()), Resource::Nofile, limit).expect("limited");
    };
    // All numbers below it are in use.
    limit(3);
    let mut front = UnixStream::connect(container.dir.join("control.sock")).expect("connected");
    let used = ticks_of_control_thread(pid);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = ticks_of_control_thread(pid) - used;
    assert!(used < 10, "{used} ticks in half a second");
    limit(64);
    front.set_read_timeout(Some(SOON)).expect("patience");
    front.read_exact(&mut [0; 4]).expect("a greeting");
}

#[tokio::test]
async fn a_front_that_waits_for_a_socket_connects_again_by_itself() {
    let node = Node::start().await;
    let container = node.container(&guests::sleeper());
    node.run(&container).await;
    let (shim, id) = (node.shim.clone(), container.id.clone());
    let waiting = tokio::spawn(async move { shim.listening(&id).await });
    let other = control::connect(&container.dir).await.expect("control socket").control;
    tokio::time::timeout(SOON, other.closed()).await.expect("the front is back in its place");
    assert!(!waiting.is_finished());
}

/// A container whose process speaks another version of the control protocol than the front.
#[tokio::test]
async fn a_container_of_another_version_is_adopted_as_running_and_still_killed() {
    let mut node = Node::start().await;
    let container = node.container(&guests::sleeper());
    let pid = node.run(&container).await;
    crate::node::kill(node.front_pid());
    let listener = UnixListener::from(control::listen(&container.dir).expect("in the place of its own"));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let greeting = br#"{"version":2,"mood":"good"}"#;
            let length = u32::try_from(greeting.len()).expect("short").to_le_bytes();
            // Who hung up has heard enough.
            let _ = connection.expect("a front").write_all(&[&length[..], greeting].concat());
        }
    });
    node.restart().await;
    let state = node.shim.state(&container.id, "").await.expect("state");
    assert_eq!((state.status, state.pid), (Status::Running, pid));
    let error = node.shim.kill(&container.id, "", 15, false).await.expect_err("it cannot be asked");
    assert!(error.to_string().contains("speaks version 2 of the control protocol, this is 1"), "{error}");
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
    assert!(container.exit().seen);
}
