//! Front and zygote die; guests do not.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use samara_shim_client::Status;

use crate::guests;
use crate::node::{EXE, Node, kill, lives, until};

#[tokio::test]
async fn a_new_front_adopts_what_a_killed_one_left_and_guests_notice_nothing() {
    let mut node = Node::start().await;
    let wasm = guests::sleeper();
    let (running, created) = (node.container(&wasm), node.container(&wasm));
    let ends_meanwhile = node.container(&wasm);
    let pid = node.run(&running).await;
    node.shim.create(&created.request()).await.expect("created");
    let meanwhile = node.run(&ends_meanwhile).await;
    until("ready", || running.records().contains(&"stdout F ready".to_owned()).then_some(())).await;
    let zygote = node.zygote_pid();

    kill(node.front_pid());
    kill(meanwhile.cast_signed());
    until("recorded by the zygote", || ends_meanwhile.bundle().exit_record().expect("readable")).await;
    node.restart().await;

    let state = node.shim.state(&running.id, "").await.expect("state");
    assert_eq!((state.status, state.pid), (Status::Running, pid));
    assert!(lives(zygote), "the same zygote goes on");
    assert_eq!(node.shim.state(&created.id, "").await.expect("state").status, Status::Created);
    assert_eq!(node.shim.wait(&ends_meanwhile.id, "").await.expect("ended").code, 137);
    assert!(ends_meanwhile.exit().seen);

    node.shim.start(&created.id, "").await.expect("started by another front");
    until("ready", || created.records().contains(&"stdout F ready".to_owned()).then_some(())).await;
    for container in [&running, &created] {
        node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
        assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
    }
    for container in [&running, &created, &ends_meanwhile] {
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
    assert_eq!(running.records(), ["stdout F ready"]);
    kill(zygote);
}

#[tokio::test]
async fn a_killed_zygote_is_replaced_and_its_guests_ends_are_still_seen() {
    let node = Node::start().await;
    let wasm = guests::sleeper();
    let (first, second) = (node.container(&wasm), node.container(&wasm));
    let pid = node.run(&first).await;
    node.run(&second).await;
    let zygote = node.zygote_pid();
    kill(zygote);

    let after = node.container(&guests::say(1, "after\n", 4));
    node.run(&after).await;
    assert_eq!(node.shim.wait(&after.id, "").await.expect("ended").code, 4);
    assert_ne!(node.zygote_pid(), zygote);

    assert_eq!(node.shim.state(&first.id, "").await.expect("state").status, Status::Running);
    assert!(lives(pid.cast_signed()));
    node.shim.kill(&first.id, "", 9, false).await.expect("killed");
    assert_eq!(node.shim.wait(&first.id, "").await.expect("ended").code, 137);
    node.shim.kill(&second.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&second.id, "").await.expect("ended").code, 143);
    for container in [&first, &second] {
        let record = container.exit();
        assert_eq!((record.seen, record.oom_killed), (true, false), "the front reaps what the zygote left");
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
}

#[tokio::test]
async fn when_both_died_the_living_are_adopted_and_the_unseen_say_so() {
    let mut node = Node::start().await;
    let wasm = guests::sleeper();
    let (living, dead) = (node.container(&wasm), node.container(&wasm));
    let pid = node.run(&living).await;
    let dead_pid = node.run(&dead).await.cast_signed();
    let (front, zygote) = (node.front_pid(), node.zygote_pid());
    kill(front);
    kill(zygote);
    until("both are gone", || (!lives(front) && !lives(zygote)).then_some(())).await;
    kill(dead_pid);
    until("gone", || (!lives(dead_pid)).then_some(())).await;
    node.restart().await;

    assert_eq!(node.shim.wait(&dead.id, "").await.expect("ended").code, 255);
    assert!(!dead.exit().seen);
    let state = node.shim.state(&living.id, "").await.expect("state");
    assert_eq!((state.status, state.pid), (Status::Running, pid));
    node.shim.kill(&living.id, "", 9, false).await.expect("killed");
    node.shim.wait(&living.id, "").await.expect("ended");
    for container in [&living, &dead] {
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
    let new = node.container(&guests::say(1, "new\n", 0));
    node.run(&new).await;
    assert_eq!(node.shim.wait(&new.id, "").await.expect("ended").code, 0);
}

#[tokio::test]
async fn two_starts_lead_to_one_front() {
    let mut node = Node::start().await;
    let front = node.front_pid();
    node.restart().await;
    assert_eq!(node.front_pid(), front);
    let output = std::process::Command::new(crate::node::EXE)
        .args(["front", "--dir"])
        .arg(node.front_dir())
        .output()
        .expect("started");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), node.shim.socket().display().to_string());
    assert_eq!(node.front_pid(), front);
}

#[tokio::test]
async fn a_paused_container_is_adopted_as_paused() {
    let mut node = Node::start().await;
    let container = node.container(&guests::sleeper());
    node.run(&container).await;
    node.shim.pause(&container.id).await.expect("paused");
    let (front, zygote) = (node.front_pid(), node.zygote_pid());
    kill(front);
    node.restart().await;
    assert_eq!(node.shim.state(&container.id, "").await.expect("state").status, Status::Paused);
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
    node.shim.delete(&container.id, "").await.expect("deleted");
    kill(zygote);
}

fn file(path: impl AsRef<Path>) -> (u64, u64) {
    let file = fs::metadata(path).expect("a file");
    (file.dev(), file.ino())
}

#[tokio::test]
async fn a_front_of_another_binary_forks_from_a_zygote_of_that_binary_and_sees_the_ends_of_the_old_ones_containers() {
    let mut node = Node::start().await;
    let wasm = guests::sleeper();
    let (old, ends_meanwhile) = (node.container(&wasm), node.container(&wasm));
    node.run(&old).await;
    let meanwhile = node.run(&ends_meanwhile).await;
    let (front, first) = (node.front_pid(), node.zygote_pid());
    let next = node.home().join("next");
    fs::copy(EXE, &next).expect("copied");

    kill(front);
    until("dead", || (!lives(front)).then_some(())).await;
    kill(meanwhile.cast_signed());
    node.restart_from(&next).await;
    let new = node.container(&guests::say(1, "new\n", 5));
    node.run(&new).await;
    assert_eq!(node.shim.wait(&new.id, "").await.expect("ended").code, 5);
    let second = node.zygote_pid();
    assert_ne!(second, first);
    assert_eq!(file(format!("/proc/{second}/exe")), file(&next));

    assert_eq!(node.shim.wait(&ends_meanwhile.id, "").await.expect("ended").code, 137);
    assert!(lives(first), "it has a container still");
    node.shim.kill(&old.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&old.id, "").await.expect("ended").code, 143);
    for container in [&old, &ends_meanwhile] {
        assert!(container.exit().seen, "by the zygote of before");
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
    until("the first zygote has ended", || (!lives(first)).then_some(())).await;
}

/// What takes the place of a zygote: greets with `greeting`, if any, and says no more.
fn pretender(socket: &Path, greeting: Option<Vec<u8>>) -> std::thread::JoinHandle<()> {
    let listen: OwnedFd = samara_shim::zygote::listen(socket).expect("in its place");
    rustix::io::ioctl_fionbio(&listen, false).expect("waits for the front");
    std::thread::spawn(move || {
        let front = rustix::net::accept_with(&listen, SocketFlags::CLOEXEC).expect("a front");
        if let Some(greeting) = greeting {
            rustix::net::send(front.as_fd(), &greeting, SendFlags::NOSIGNAL).expect("said");
        }
        // Until the front has gone.
        let _ = rustix::net::recv(front.as_fd(), &mut [0; 1], RecvFlags::empty());
    })
}

fn greeting(version: u16, pid: u32) -> Vec<u8> {
    const HELLO: u16 = 101;
    let mut bytes = b"SmZy".to_vec();
    bytes.extend([version, HELLO].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend([pid, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes));
    bytes
}

#[tokio::test]
async fn a_zygote_that_cannot_be_understood_is_not_taken() {
    let mut node = Node::start().await;
    let old = node.container(&guests::sleeper());
    node.run(&old).await;
    let own = std::process::id();
    for (what, said) in [
        ("another version", Some(greeting(2, own))),
        ("another binary", Some(greeting(1, own))),
        ("too long", Some([greeting(1, own), greeting(1, own)].concat())),
        ("silent", None),
    ] {
        let front = node.front_pid();
        kill(front);
        until("dead", || (!lives(front)).then_some(())).await;
        let pretender = pretender(&node.front_dir().join("zygote.sock"), said);
        node.restart().await;
        let new = node.container(&guests::say(1, "new\n", 5));
        node.run(&new).await;
        assert_eq!(node.shim.wait(&new.id, "").await.expect("ended").code, 5, "{what}");
        pretender.join().expect("it was asked, and left");
    }
    node.shim.kill(&old.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&old.id, "").await.expect("ended").code, 143);
    assert!(old.exit().seen);
}
