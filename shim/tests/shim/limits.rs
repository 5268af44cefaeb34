//! Limits that hold, and how their ends are told apart.

use std::time::Duration;

use samara_shim_client::cgroup::Cgroups;
use serde_json::json;

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
    let container = node.container(&guests::hog()).resources(json!({"memory": {"limit": 256 * MIB}}));
    node.shim.create(&container.request()).await.expect("created");
    // Below what the guest may have by its own counter.
    let limit = serde_json::from_value(json!({"memory": {"limit": 24 * MIB}})).expect("resources");
    node.shim.update(&container.id, &limit).await.expect("updated");
    node.shim.start(&container.id, "").await.expect("started");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 137);
    let record = container.exit();
    assert!(record.oom_killed, "{record:?}");
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

#[tokio::test]
async fn the_pods_cgroup_is_made_with_its_own_limits() {
    let node = Node::start().await;
    let mut container = node.container(&guests::sleeper());
    let pod = format!("/samara-test-{}/pod-of-{}", std::process::id(), container.id);
    container.config["linux"]["cgroupsPath"] = json!(format!("{pod}/{}", container.id));
    container.annotation("samara.dev/pod-resources", Some(r#"{"memory": {"limit": 134217728}}"#));
    node.run(&container).await;
    let pod = Cgroups::detect().expect("cgroups").group(&pod).expect("path");
    assert_eq!(pod.stats().expect("stats").memory.limit, Some(128 * MIB));
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    node.shim.wait(&container.id, "").await.expect("ended");
    node.shim.delete(&container.id, "").await.expect("deleted");
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
    // The freezer takes effect when the process next enters the kernel.
    let mut before = usage().await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = usage().await;
        if now == before {
            break;
        }
        before = now;
    }
    assert_eq!(usage().await, before, "still running");
    node.shim.resume(&container.id).await.expect("resumed");
    let mut now = before;
    for _ in 0..100 {
        now = usage().await;
        if now > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(now > before, "did not go on");
    node.shim.kill(&container.id, "", 9, false).await.expect("killed");
    node.shim.wait(&container.id, "").await.expect("ended");
    node.shim.delete(&container.id, "").await.expect("deleted");
    assert!(!Cgroups::detect().expect("cgroups").group(&container.cgroup).expect("path").exists());
}
