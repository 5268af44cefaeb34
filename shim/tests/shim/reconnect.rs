//! A front whose connection to a container was lost makes another.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;

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
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("lives");
        let has_new = open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == container.log.path));
        (files > 1 && has_new).then_some(())
    })
    .await;
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
