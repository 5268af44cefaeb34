//! Further processes in a running container.

use std::fs;

use samara_shim_client::client::ExecTask;
use samara_shim_client::{ShimError, Standard, Status};
use serde_json::json;

use crate::bundle::Container;
use crate::guests;
use crate::node::{Node, until};

fn exec(container: &Container, exec_id: &str, args: &[&str]) -> ExecTask {
    let process = json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]});
    let log = format!("file://{}", container.dir.join(exec_id).display());
    ExecTask {
        id: container.id.clone(),
        exec_id: exec_id.into(),
        process: serde_json::from_value(process).expect("process"),
        standard: Standard { stdout: log.clone(), stderr: log, ..Standard::default() },
    }
}

async fn toolbox(node: &Node) -> Container {
    let (app, say, cat) = (guests::sleeper(), guests::say(1, "from exec\n", 9), guests::cat());
    let files: [(&str, &[u8]); 4] =
        [("/bin/app", &app), ("/bin/say", &say), ("/bin/cat", &cat), ("/bin/sh", b"\x7fELF....")];
    let container = Container::with_root(node.home(), &files).args(&["app"]);
    node.run(&container).await;
    container
}

#[tokio::test]
async fn an_exec_runs_beside_the_container_with_its_own_exit_code() {
    let node = Node::start().await;
    let container = toolbox(&node).await;
    let exec = exec(&container, "e1", &["say"]);
    node.shim.exec(&exec).await.expect("added");
    assert!(matches!(node.shim.exec(&exec).await, Err(ShimError::AlreadyExists { .. })));
    let state = node.shim.state(&container.id, "e1").await.expect("state");
    assert_eq!((state.status, state.pid), (Status::Created, 0));
    let pid = node.shim.start(&container.id, "e1").await.expect("started");
    assert!(pid > 0);
    assert_eq!(node.shim.wait(&container.id, "e1").await.expect("ended").code, 9);
    assert_eq!(fs::read_to_string(container.dir.join("e1")).expect("output"), "from exec\n");
    assert_eq!(node.shim.delete(&container.id, "e1").await.expect("deleted").code, 9);
    assert!(!container.bundle().exec("e1").dir().exists());
    assert_eq!(node.shim.state(&container.id, "").await.expect("state").status, Status::Running);
}

#[tokio::test]
async fn an_exec_of_what_is_not_wasm_says_so_and_can_be_removed() {
    let node = Node::start().await;
    let container = toolbox(&node).await;
    for (exec_id, name, message) in [
        ("e1", "/bin/sh", "exec format error: /bin/sh is not WebAssembly (an ELF binary)"),
        ("e2", "bash", r#"exec: "bash": executable file not found in $PATH"#),
    ] {
        node.shim.exec(&exec(&container, exec_id, &[name])).await.expect("added");
        let error = node.shim.start(&container.id, exec_id).await.expect_err("refused");
        assert_eq!(error.message(), message);
        node.shim.delete(&container.id, exec_id).await.expect("deleted");
    }
}

#[tokio::test]
async fn an_exec_reads_its_input_until_it_is_closed() {
    let node = Node::start().await;
    let container = toolbox(&node).await;
    let fifo = container.dir.join("stdin");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    let mut exec = exec(&container, "e1", &["cat"]);
    exec.standard.stdin = fifo.display().to_string();
    node.shim.exec(&exec).await.expect("added");
    node.shim.start(&container.id, "e1").await.expect("started");
    fs::write(&fifo, "some input").expect("input");
    let output = container.dir.join("e1");
    until("echo", || (fs::read_to_string(&output).unwrap_or_default() == "some input").then_some(())).await;
    node.shim.close_io(&container.id, "e1").await.expect("closed");
    assert_eq!(node.shim.wait(&container.id, "e1").await.expect("ended").code, 5);
}

#[tokio::test]
async fn an_exec_is_killed_alone_and_ends_with_its_container() {
    let node = Node::start().await;
    let container = toolbox(&node).await;
    for exec_id in ["e1", "e2"] {
        node.shim.exec(&exec(&container, exec_id, &["app"])).await.expect("added");
        node.shim.start(&container.id, exec_id).await.expect("started");
    }
    assert_eq!(node.shim.pids(&container.id).await.expect("pids").len(), 3);
    node.shim.kill(&container.id, "e1", 9, false).await.expect("killed");
    assert_eq!(node.shim.wait(&container.id, "e1").await.expect("ended").code, 137);
    assert_eq!(node.shim.state(&container.id, "e2").await.expect("state").status, Status::Running);
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
    assert_eq!(node.shim.wait(&container.id, "e2").await.expect("ended").code, 137);
    let error = node.shim.exec(&exec(&container, "e3", &["say"])).await.expect_err("the container is gone");
    assert!(matches!(error, ShimError::FailedPrecondition { .. }), "{error}");
    node.shim.delete(&container.id, "").await.expect("deleted");
}

#[tokio::test]
async fn output_waits_in_its_fifo_for_a_reader_that_comes_late() {
    let node = Node::start().await;
    let container = toolbox(&node).await;
    let fifo = container.dir.join("stdout");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    let mut exec = exec(&container, "e1", &["say"]);
    (exec.standard.stdout, exec.standard.stderr) = (fifo.display().to_string(), String::new());
    node.shim.exec(&exec).await.expect("added");
    node.shim.start(&container.id, "e1").await.expect("started");
    assert_eq!(node.shim.wait(&container.id, "e1").await.expect("ended").code, 9);
    let output = tokio::task::spawn_blocking(move || fs::read_to_string(fifo)).await.expect("read");
    assert_eq!(output.expect("output"), "from exec\n");
}
