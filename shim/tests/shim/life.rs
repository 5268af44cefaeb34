//! Create, start, wait, logs, delete: and nothing stays.

use std::fs;

use samara_shim_client::{ShimError, Status};

use crate::guests;
use crate::node::{Node, lives, until};

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo")
        .expect("mounts")
        .lines()
        .filter(|line| line.contains("samara-shim-"))
        .count()
}

#[tokio::test]
async fn a_guest_runs_its_output_is_logged_and_nothing_stays() {
    let node = Node::start().await;
    let container = node.container(&guests::say(1, "hello\nwor", 3));
    let pid = node.shim.create(&container.request()).await.expect("created");
    let state = node.shim.state(&container.id, "").await.expect("state");
    assert_eq!((state.status, state.pid), (Status::Created, pid));
    assert_eq!(container.records(), Vec::<String>::new(), "a created guest waits");

    assert_eq!(node.shim.start(&container.id, "").await.expect("started"), pid);
    let exit = node.shim.wait(&container.id, "").await.expect("ended");
    assert_eq!(exit.code, 3);
    assert_eq!(container.records(), ["stdout F hello", "stdout P wor"]);
    let record = container.exit();
    assert_eq!((record.exit_code, record.oom_killed, record.seen), (3, false, true));
    let state = node.shim.state(&container.id, "").await.expect("state");
    assert_eq!((state.status, state.exit.map(|exit| exit.code)), (Status::Stopped, Some(3)));

    let deleted = node.shim.delete(&container.id, "").await.expect("deleted");
    assert_eq!((deleted.code, deleted.pid, deleted.exited_at_nanos), (3, pid, record.exited_at_nanos));
    let cgroups = samara_shim_client::cgroup::Cgroups::detect().expect("cgroups");
    assert!(!cgroups.group(&container.cgroup).expect("path").exists(), "cgroup");
    let mut left: Vec<_> =
        fs::read_dir(&container.dir).expect("bundle").map(|entry| entry.expect("entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["config.json", "module.wasm", "rootfs"]);
    assert_eq!(fs::read_dir(node.front_dir().join("tasks")).expect("links").count(), 0);
    assert_eq!(mounts(), 0);
    assert!(!lives(pid.cast_signed()));
}

#[tokio::test]
async fn standard_error_is_told_apart_in_the_log() {
    let node = Node::start().await;
    let container = node.container(&guests::say(2, "oh\n", 0));
    node.run(&container).await;
    node.shim.wait(&container.id, "").await.expect("ended");
    assert_eq!(container.records(), ["stderr F oh"]);
}

#[tokio::test]
async fn a_program_is_found_in_its_own_root_through_links() {
    let node = Node::start().await;
    let app = guests::say(1, "found\n", 0);
    let files: [(&str, &[u8]); 2] = [("/opt/app.wasm", &app), ("/bin/app", b"-> ../opt/app.wasm")];
    let container = crate::bundle::Container::with_root(node.home(), &files).args(&["app"]);
    node.run(&container).await;
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 0);
    assert_eq!(container.records(), ["stdout F found"]);
    node.shim.delete(&container.id, "").await.expect("deleted");
    assert_eq!(mounts(), 0);
}

#[tokio::test]
async fn create_and_start_go_in_one_round_trip() {
    let node = Node::start().await;
    let container = node.container(&guests::say(1, "hi\n", 0));
    let pid = node.shim.create_and_start(&container.request()).await.expect("running");
    assert!(pid > 0);
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 0);
}

#[tokio::test]
async fn a_trap_is_134_and_its_message_is_recorded() {
    let node = Node::start().await;
    let container = node.container(&guests::trap());
    node.run(&container).await;
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 134);
    let message = container.exit().message.expect("a message");
    assert!(message.contains("unreachable"), "{message}");
    assert!(container.records().iter().any(|record| record.starts_with("stderr") && record.contains("unreachable")));
}

#[tokio::test]
async fn terminate_ends_a_command_with_143_at_once_even_while_it_spins() {
    let node = Node::start().await;
    for guest in [guests::sleeper(), guests::spinner()] {
        let container = node.container(&guest);
        node.run(&container).await;
        until("ready", || container.records().contains(&"stdout F ready".to_owned()).then_some(())).await;
        node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
        assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
}

#[tokio::test]
async fn kill_ends_it_with_137_which_is_not_out_of_memory() {
    let node = Node::start().await;
    let container = node.container(&guests::spinner());
    node.run(&container).await;
    node.shim.kill(&container.id, "", 9, true).await.expect("killed");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
    let record = container.exit();
    assert_eq!((record.oom_killed, record.seen), (false, true));
    let error = node.shim.kill(&container.id, "", 9, false).await.expect_err("gone");
    assert!(matches!(error, ShimError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_created_container_can_be_deleted_without_ever_running() {
    let node = Node::start().await;
    let container = node.container(&guests::say(1, "never\n", 0));
    node.shim.create(&container.request()).await.expect("created");
    node.shim.delete(&container.id, "").await.expect("deleted");
    assert_eq!(container.records(), Vec::<String>::new());
}

#[tokio::test]
async fn calls_in_the_wrong_order_are_typed_errors() {
    let node = Node::start().await;
    let shim = &node.shim;
    assert!(matches!(shim.start("none", "").await, Err(ShimError::NotFound { .. })));
    assert!(matches!(shim.wait("none", "").await, Err(ShimError::NotFound { .. })));
    assert!(matches!(shim.delete("none", "").await, Err(ShimError::NotFound { .. })));
    let container = node.container(&guests::sleeper());
    let id = &container.id;
    node.run(&container).await;
    assert!(matches!(shim.create(&container.request()).await, Err(ShimError::AlreadyExists { .. })));
    assert!(matches!(shim.start(id, "").await, Err(ShimError::FailedPrecondition { .. })));
    assert!(matches!(shim.delete(id, "").await, Err(ShimError::FailedPrecondition { .. })));
    assert!(matches!(shim.resume(id).await, Err(ShimError::FailedPrecondition { .. })));
    assert!(matches!(shim.resize_pty(id, "", 80, 25).await, Err(ShimError::FailedPrecondition { .. })));
    assert!(matches!(shim.kill(id, "", 65, false).await, Err(ShimError::InvalidArgument { .. })));
    assert!(matches!(shim.state(id, "none").await, Err(ShimError::NotFound { .. })));
    shim.kill(id, "", 9, false).await.expect("killed");
    shim.wait(id, "").await.expect("ended");
    assert!(matches!(shim.start(id, "").await, Err(ShimError::FailedPrecondition { .. })));
    shim.delete(id, "").await.expect("deleted");
    assert!(matches!(shim.delete(id, "").await, Err(ShimError::NotFound { .. })), "twice");
}

#[tokio::test]
async fn a_hundred_at_once_all_run_and_none_stays() {
    let node = Node::start().await;
    let wasm = guests::say(1, "one\n", 0);
    let containers: Vec<_> = (0..100).map(|_| node.container(&wasm)).collect();
    let runs = containers.iter().map(|container| async {
        node.shim.create_and_start(&container.request()).await.expect("running");
        let exit = node.shim.wait(&container.id, "").await.expect("ended");
        node.shim.delete(&container.id, "").await.expect("deleted");
        exit.code
    });
    assert_eq!(futures::future::join_all(runs).await, vec![0; 100]);
    assert!(containers.iter().all(|container| container.records() == ["stdout F one"]));
    assert_eq!(fs::read_dir(node.front_dir().join("tasks")).expect("links").count(), 0);
}

#[tokio::test]
async fn a_front_without_tasks_ends_when_told_and_its_zygote_with_it() {
    let node = Node::start().await;
    let container = node.container(&guests::sleeper());
    node.run(&container).await;
    let (front, zygote) = (node.front_pid(), node.zygote_pid());
    node.shim.shutdown().await.expect("heard");
    assert!(lives(front), "it has a task");
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    node.shim.wait(&container.id, "").await.expect("ended");
    node.shim.delete(&container.id, "").await.expect("deleted");
    node.shim.shutdown().await.expect("heard");
    until("both are gone", || (!lives(front) && !lives(zygote)).then_some(())).await;
    assert!(!node.front_dir().exists());
}
