//! Hooks of the host, as nerdctl sets them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bundle::Container;
use crate::guests;
use crate::node::{Node, lives};

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// Keeps what it is told, one state after the other.
fn keep(path: &Path) -> Value {
    shell(&format!("cat >> {0}; echo >> {0}", path.display()))
}

fn told(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a state")).collect()
}

fn with_hooks(node: &Node, hooks: Value) -> (Container, PathBuf) {
    let mut container = node.container(&guests::sleeper());
    container.config["linux"]["namespaces"].as_array_mut().expect("list").push(json!({"type": "network"}));
    container.config["hooks"] = hooks;
    let dir = container.dir.clone();
    (container, dir)
}

#[tokio::test]
async fn a_hook_finds_the_containers_network_before_its_guest_runs_and_another_sees_its_end() {
    let node = Node::start().await;
    let (mut container, dir) = with_hooks(&node, Value::Null);
    let (created, network, started, stopped) =
        (dir.join("created"), dir.join("network"), dir.join("started"), dir.join("stopped"));
    // As nerdctl's does it: by the pid that it is told.
    let look =
        shell(&format!("readlink /proc/$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')/ns/net > {}", network.display()));
    container.config["hooks"] = json!({
        "createRuntime": [keep(&created), look],
        "poststart": [keep(&started)],
        "poststop": [keep(&stopped)],
    });
    let pid = node.shim.create(&container.request()).await.expect("created");
    let states = told(&created);
    assert_eq!(states.len(), 1);
    assert_eq!((&states[0]["id"], &states[0]["pid"]), (&json!(container.id), &json!(pid)));
    assert_eq!((&states[0]["status"], &states[0]["bundle"]), (&json!("created"), &json!(container.dir)));
    let inside = fs::read_link(format!("/proc/{pid}/ns/net")).expect("lives");
    assert_eq!(fs::read_to_string(&network).expect("network").trim(), inside.to_str().expect("text"));
    assert!(container.records().is_empty() && told(&started).is_empty(), "its guest waits");

    node.shim.start(&container.id, "").await.expect("started");
    assert_eq!(told(&started)[0]["status"], "running");
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    node.shim.wait(&container.id, "").await.expect("ended");
    assert!(told(&stopped).is_empty());
    node.shim.delete(&container.id, "").await.expect("deleted");
    assert_eq!(told(&stopped)[0]["status"], "stopped");
}

#[tokio::test]
async fn a_container_whose_hook_fails_is_not_made_and_what_was_begun_is_undone() {
    let node = Node::start().await;
    let (mut container, dir) = with_hooks(&node, Value::Null);
    let (first, last) = (dir.join("first"), dir.join("last"));
    container.config["hooks"] = json!({
        "createRuntime": [keep(&first), shell("echo the network is full >&2; exit 4")],
        "poststop": [keep(&last)],
    });
    let error = node.shim.create(&container.request()).await.expect_err("refused");
    assert!(error.to_string().contains("exit status: 4: the network is full"), "{error}");
    let pid = told(&first)[0]["pid"].as_i64().expect("pid");
    assert!(!lives(i32::try_from(pid).expect("pid")));
    assert_eq!(told(&last).len(), 1);
    assert!(node.shim.state(&container.id, "").await.is_err(), "no such task");
}

#[tokio::test]
async fn others_are_served_while_a_hook_takes_its_time() {
    let node = Node::start().await;
    let (slow, dir) = with_hooks(&node, Value::Null);
    let fifo = dir.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    let mut slow = slow;
    slow.config["hooks"] = json!({"createRuntime": [shell(&format!("read line < {}", fifo.display()))]});
    let (shim, request) = (node.shim.clone(), slow.request());
    let creating = tokio::spawn(async move { shim.create(&request).await });
    // Opens when the hook has.
    let mut input = tokio::fs::OpenOptions::new().write(true).open(&fifo).await.expect("hook");
    let other = node.container(&guests::say(1, "x", 3));
    node.run(&other).await;
    assert_eq!(node.shim.wait(&other.id, "").await.expect("ended").code, 3);
    assert!(!creating.is_finished());
    tokio::io::AsyncWriteExt::write_all(&mut input, b"go\n").await.expect("told");
    creating.await.expect("no panic").expect("created");
}
