//! Limits that hold, and how their ends are told apart.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use samara_shim_client::cgroup::Cgroups;
use samara_shim_client::{ExecTask, Standard};
use serde_json::json;

use crate::bundle::Container;
use crate::guests;
use crate::node::{Node, until};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_guest_that_grows_past_its_limit_is_out_of_memory() {
    let node = Node::start().await;
    let container = node.container(&guests::hog()).resources(json!({"memory": {"limit": 64 * MIB}}));
    node.run(&container).await;
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
    let record = container.exit();
    assert!(record.oom_killed, "{record:?}");
}

#[tokio::test]
async fn the_kernels_own_limit_is_out_of_memory_too() {
    let node = Node::start().await;
    let container = node.container(&guests::hog()).resources(json!({"memory": {"limit": 1024 * MIB}}));
    node.shim.create(&container.request()).await.expect("created");
    // Behind the front's back: the guest's own counter does not know.
    let limit = serde_json::from_value(json!({"memory": {"limit": 24 * MIB, "swap": 24 * MIB}})).expect("resources");
    let cgroup = Cgroups::detect().expect("cgroups").group(&container.cgroup).expect("path");
    cgroup.limit(&limit).expect("set");
    node.shim.start(&container.id, "").await.expect("started");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
    let record = container.exit();
    assert!(record.oom_killed, "{record:?}");
    assert_eq!(record.message, None, "the guest's own counter has words");
    assert!(cgroup.oom_kills().expect("counted") > 0);
}

#[tokio::test]
async fn a_spinner_keeps_to_its_cpu_quota_and_its_usage_is_told() {
    let node = Node::start().await;
    let resources = json!({"cpu": {"quota": 10_000, "period": 100_000, "shares": 102}, "memory": {"limit": 64 * MIB}});
    let container = node.container(&guests::spinner()).resources(resources);
    let began = std::time::Instant::now();
    node.run(&container).await;
    let throttled = loop {
        let stats = node.shim.stats(&container.id).await.expect("stats");
        if stats.cpu.throttled_periods >= 5 {
            break stats;
        }
        assert!(began.elapsed() < crate::node::SOON, "never throttled: {stats:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let share = throttled.cpu.usage_nanos as f64 / began.elapsed().as_nanos() as f64;
    assert!(share < 0.3, "a tenth was allowed, {share:.2} was taken");
    assert_eq!(throttled.memory.limit, Some(64 * MIB));
    assert!(throttled.memory.usage > 0 && throttled.pids.current > 0, "{throttled:?}");
}

#[tokio::test]
async fn limits_change_while_it_runs() {
    let node = Node::start().await;
    let container = node.container(&guests::sleeper()).resources(json!({"memory": {"limit": 64 * MIB}}));
    node.run(&container).await;
    for limit in [128 * MIB, 32 * MIB] {
        let resources = json!({"memory": {"limit": limit, "swap": limit}, "cpu": {"quota": 20_000, "period": 100_000}});
        let resources = serde_json::from_value(resources).expect("resources");
        node.shim.update(&container.id, &resources).await.expect("updated");
        assert_eq!(node.shim.stats(&container.id).await.expect("stats").memory.limit, Some(limit));
    }
}

/// A guest that will take all the memory it can get when it is told to, and what tells it.
async fn hog_to_be(node: &Node, limit: u64) -> (Container, File) {
    let container = node.container(&guests::hog_when_told()).resources(json!({"memory": {"limit": limit}}));
    let stdin = container.dir.join("in");
    rustix::fs::mknodat(rustix::fs::CWD, &stdin, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    let input = File::options().read(true).write(true).open(&stdin).expect("input");
    let mut request = container.request();
    request.standard.stdin = stdin.display().to_string();
    node.shim.create(&request).await.expect("created");
    node.shim.start(&container.id, "").await.expect("started");
    (container, input)
}

async fn update(node: &Node, container: &Container, limit: i64) {
    let resources = serde_json::from_value(json!({"memory": {"limit": limit, "swap": limit}})).expect("resources");
    node.shim.update(&container.id, &resources).await.expect("updated");
}

#[tokio::test]
async fn a_changed_memory_limit_is_the_guests_own_too() {
    let node = Node::start().await;
    // Both ways; the kernel's own limit is far from being reached by pages that nobody touches.
    for limit in [96 * MIB, 32 * MIB] {
        let (container, mut input) = hog_to_be(&node, 64 * MIB).await;
        update(&node, &container, limit.cast_signed()).await;
        input.write_all(b"x").expect("told");
        assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
        let message = container.exit().message.expect("a message");
        assert!(message.contains(&format!("memory limit of {limit} bytes")), "{message}");
    }
}

#[tokio::test]
async fn a_paused_guests_limit_is_changed_when_it_goes_on_and_none_is_none() {
    let node = Node::start().await;
    let (container, mut input) = hog_to_be(&node, 64 * MIB).await;
    node.shim.pause(&container.id).await.expect("paused");
    update(&node, &container, -1).await;
    node.shim.resume(&container.id).await.expect("resumed");
    until("told", || node.log().contains("late memory limit").then_some(())).await;
    input.write_all(b"x").expect("told");
    // All of a 32-bit memory: refused politely.
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 7);
}

#[tokio::test]
async fn an_exec_after_a_change_has_the_changed_limit() {
    let node = Node::start().await;
    let files: [(&str, &[u8]); 2] = [("/app", &guests::sleeper()), ("/hog", &guests::hog())];
    let container = Container::with_root(node.home(), &files).args(&["/app"]);
    let container = container.resources(json!({"memory": {"limit": 64 * MIB}}));
    node.run(&container).await;
    update(&node, &container, 96 << 20).await;
    let process = json!({"args": ["/hog"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    let exec = ExecTask {
        id: container.id.clone(),
        exec_id: "e".into(),
        process: serde_json::from_value(process).expect("process"),
        standard: Standard::default(),
    };
    node.shim.exec(&exec).await.expect("added");
    node.shim.start(&container.id, "e").await.expect("started");
    assert_eq!(node.shim.wait(&container.id, "e").await.expect("ended").code, 137);
    let record = container.bundle().exec("e").exit_record().expect("readable").expect("ended");
    let message = record.message.expect("a message");
    assert!(message.contains(&format!("memory limit of {} bytes", 96 * MIB)), "{message}");
}

#[tokio::test]
async fn the_pods_cgroup_is_made_with_its_own_limits_and_counts_its_containers() {
    let node = Node::start().await;
    let mut container = node.container(&guests::sleeper());
    let pod = format!("/samara-test-{}/pod-of-{}", std::process::id(), container.id);
    let own = format!("{pod}/{}", container.id);
    container.config["linux"]["cgroupsPath"] = json!(own);
    container.annotation("samara.dev/pod-resources", Some(r#"{"memory": {"limit": 134217728}}"#));
    node.run(&container).await;
    let [pod, own] = [pod, own].map(|path| Cgroups::detect().expect("cgroups").group(&path).expect("path"));
    assert_eq!(pod.stats().expect("stats").memory.limit, Some(128 * MIB));
    // What the node's figures are made of: a pod's are those of all below it.
    for cgroup in [&own, &pod] {
        until("counted", || {
            let stats = cgroup.stats().expect("stats");
            (stats.cpu.usage_nanos > 0 && stats.memory.usage > 0 && stats.pids.current > 0).then_some(())
        })
        .await;
    }
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    node.shim.wait(&container.id, "").await.expect("ended");
    node.shim.delete(&container.id, "").await.expect("deleted");
    assert!(!own.exists());
    assert!(pod.exists(), "it is the agent's to remove");
    pod.remove().await.expect("removed");
}

#[tokio::test]
async fn a_paused_guest_takes_no_cpu_and_goes_on() {
    let node = Node::start().await;
    let container = node.container(&guests::spinner());
    node.run(&container).await;
    until("ready", || container.records().contains(&"stdout F ready".to_owned()).then_some(())).await;
    node.shim.pause(&container.id).await.expect("paused");
    let usage = || async { node.shim.stats(&container.id).await.expect("stats").cpu.usage_nanos };
    // The freezer takes effect when the process next enters the kernel; then for as long as one looks nothing is used.
    let began = std::time::Instant::now();
    let (mut before, mut looks) = (usage().await, 0);
    while looks < 10 {
        assert!(began.elapsed() < crate::node::SOON, "still running");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = usage().await;
        looks = if now == before { looks + 1 } else { 0 };
        before = now;
    }
    node.shim.resume(&container.id).await.expect("resumed");
    let began = std::time::Instant::now();
    while usage().await == before {
        assert!(began.elapsed() < crate::node::SOON, "did not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    node.shim.wait(&container.id, "").await.expect("ended");
    node.shim.delete(&container.id, "").await.expect("deleted");
    assert!(!Cgroups::detect().expect("cgroups").group(&container.cgroup).expect("path").exists());
}
