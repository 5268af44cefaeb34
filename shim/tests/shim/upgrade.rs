//! A front becomes another binary while its containers run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use samara_shim_client::{ExecTask, Shim, ShimError, Status};

use crate::guests;
use crate::node::{EXE, Node, kill, lives, until};

/// The same binary under another name: as good as another one, and told apart in `/proc`.
fn next_binary(node: &Node) -> PathBuf {
    let path = node.home().join("next");
    if fs::hard_link(EXE, &path).is_err() {
        fs::copy(EXE, &path).expect("copied");
    }
    path
}

fn binary(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).expect("lives")
}

fn zygotes(front: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children")).expect("lives");
    children.split_whitespace().map(|pid| pid.parse().expect("pid")).collect()
}

#[tokio::test]
async fn containers_and_their_output_notice_nothing_of_an_upgrade() {
    let mut node = Node::start().await;
    let (running, created) = (node.container(&guests::sleeper()), node.container(&guests::say(1, "late\n", 6)));
    let paused = node.container(&guests::sleeper());
    let pid = node.run(&running).await;
    node.shim.create(&created.request()).await.expect("created");
    node.run(&paused).await;
    node.shim.pause(&paused.id).await.expect("paused");
    until("ready", || running.records().contains(&"stdout F ready".to_owned()).then_some(())).await;
    let (front, zygote, next) = (node.front_pid(), node.zygote_pid(), next_binary(&node));

    node.shim = node.shim.upgrade(&next).await.expect("upgraded");
    assert_eq!(node.front_pid(), front, "the same process");
    assert_eq!(binary(front), next, "of another binary");
    assert!(lives(zygote) && lives(pid.cast_signed()));

    let state = node.shim.state(&running.id, "").await.expect("state");
    assert_eq!((state.status, state.pid), (Status::Running, pid));
    assert_eq!(node.shim.state(&paused.id, "").await.expect("state").status, Status::Paused);
    node.shim.start(&created.id, "").await.expect("started by the next front");
    assert_eq!(node.shim.wait(&created.id, "").await.expect("ended").code, 6);
    assert_eq!(created.records(), ["stdout F late"]);

    let new = node.container(&guests::say(1, "new\n", 5));
    node.run(&new).await;
    assert_eq!(node.shim.wait(&new.id, "").await.expect("ended").code, 5);
    let others: Vec<_> = zygotes(front).into_iter().filter(|other| *other != zygote).collect();
    assert_eq!(others.len(), 1, "a zygote of its own");
    assert_eq!(binary(others[0]), next);

    node.shim.resume(&paused.id).await.expect("resumed");
    for container in [&running, &paused] {
        node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
        assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
    }
    for container in [&running, &created, &paused, &new] {
        assert!(container.exit().seen);
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
    assert_eq!(running.records(), ["stdout F ready"]);
    // Ended with its last container, and reaped: no zombie either.
    until("the old zygote has gone", || (!Path::new(&format!("/proc/{zygote}")).exists()).then_some(())).await;
}

#[tokio::test]
async fn a_front_killed_after_an_upgrade_is_followed_by_one_that_sees_the_ends_of_both_zygotes_containers() {
    let mut node = Node::start().await;
    let wasm = guests::sleeper();
    let (old, new) = (node.container(&wasm), node.container(&wasm));
    node.run(&old).await;
    let first = node.zygote_pid();
    node.shim = node.shim.upgrade(&next_binary(&node)).await.expect("upgraded");
    node.run(&new).await;
    let front = node.front_pid();
    let zygotes = zygotes(front);
    kill(front);
    node.restart().await;
    for container in [&old, &new] {
        node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
        assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
        assert!(container.exit().seen);
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
    until("the first zygote has ended", || (!lives(first)).then_some(())).await;
    zygotes.into_iter().for_each(kill);
}

#[tokio::test]
async fn what_is_no_shim_is_refused_and_the_front_goes_on() {
    let node = Node::start().await;
    let container = node.container(&guests::sleeper());
    node.run(&container).await;
    let (front, zygote) = (node.front_pid(), node.zygote_pid());
    let text = node.home().join("text");
    fs::write(&text, "no program").expect("written");
    let loops = node.home().join("loop");
    symlink(&loops, &loops).expect("link");
    for bad in [Path::new("/bin/true"), Path::new("/nowhere"), Path::new("shim"), Path::new(""), &text, &loops] {
        let error = node.shim.upgrade(bad).await.expect_err("refused");
        assert!(matches!(error, ShimError::InvalidArgument { .. }), "{}: {error}", bad.display());
        assert!(error.to_string().contains(&bad.display().to_string()), "{error}");
    }
    assert_eq!((node.front_pid(), node.zygote_pid()), (front, zygote));
    assert_eq!(node.shim.state(&container.id, "").await.expect("state").status, Status::Running);
}

#[tokio::test]
async fn clients_in_the_middle_of_upgrades_get_an_answer_or_an_error_that_says_try_again() {
    let mut node = Node::start().await;
    let wasm = guests::say(1, "one\n", 7);
    let waited = node.container(&guests::sleeper());
    node.run(&waited).await;
    let waiting = Shim::connect(node.shim.socket()).await.expect("front");
    let id = waited.id.clone();
    let waiting = tokio::spawn(async move { waiting.wait(&id, "").await });

    let socket = node.shim.socket().to_owned();
    let containers: Vec<_> = (0..20).map(|_| node.container(&wasm)).collect();
    let requests: Vec<_> = containers.iter().map(|container| container.request()).collect();
    let client = tokio::spawn(async move {
        let mut retried = 0;
        for request in requests {
            loop {
                let shim = Shim::connect(&socket).await.expect("the socket never refuses");
                let done = match shim.create_and_start(&request).await {
                    // The answer to the first try was lost with its connection.
                    Err(ShimError::AlreadyExists { .. }) => match shim.start(&request.id, "").await {
                        Ok(_) | Err(ShimError::FailedPrecondition { .. }) => Ok(()),
                        Err(error) => Err(error),
                    },
                    done => done.map(drop),
                };
                match done {
                    Ok(()) => break,
                    Err(ShimError::Unavailable { .. }) => retried += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        retried
    });
    let next = next_binary(&node);
    for _ in 0..3 {
        node.shim = node.shim.upgrade(&next).await.expect("upgraded");
    }
    eprintln!("calls repeated: {}", client.await.expect("client"));
    for container in &containers {
        assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 7);
        assert_eq!(container.records(), ["stdout F one"]);
        node.shim.delete(&container.id, "").await.expect("deleted");
    }
    let error = waiting.await.expect("client").expect_err("its front is gone");
    assert!(matches!(error, ShimError::Unavailable { .. }), "{error}");
    node.shim.kill(&waited.id, "", 9, false).await.expect("killed");
    assert_eq!(node.shim.wait(&waited.id, "").await.expect("ended").code, 137);
}

#[tokio::test]
async fn an_exec_that_was_only_added_is_still_there_after_an_upgrade() {
    let mut node = Node::start().await;
    let files: [(&str, &[u8]); 2] = [("/app", &guests::sleeper()), ("/echo", &guests::say(1, "exec\n", 9))];
    let container = crate::bundle::Container::with_root(node.home(), &files).args(&["/app"]);
    node.run(&container).await;
    let exec = ExecTask {
        id: container.id.clone(),
        exec_id: "e1".into(),
        process: serde_json::from_value(serde_json::json!({
            "args": ["/echo"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        }))
        .expect("process"),
        standard: container.request().standard,
    };
    node.shim.exec(&exec).await.expect("added");
    node.shim = node.shim.upgrade(&next_binary(&node)).await.expect("upgraded");
    node.shim.start(&container.id, "e1").await.expect("started");
    assert_eq!(node.shim.wait(&container.id, "e1").await.expect("ended").code, 9);
}
