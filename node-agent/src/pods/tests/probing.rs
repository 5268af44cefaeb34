//! Probes and hooks across the lives of agents, and at the end of a pod.

use std::time::Duration;

use serde_json::{Value, json};

use super::guest::FakeGuest;
use super::scene::{Scene, is_ready};

/// The next agent reads the status that the one before told.
async fn next_agent(scene: &mut Scene, change: impl FnOnce(&mut Value)) {
    scene.kill_worker().await;
    let mut told = scene.api.told().borrow().statuses.last().unwrap().clone();
    change(&mut told["containerStatuses"][0]);
    scene.change(|pod| pod.status = serde_json::from_value(told).unwrap());
    scene.begin().await;
}

#[tokio::test]
async fn a_hook_runs_once_though_the_agent_dies_before_its_container_has_started() {
    let guest = FakeGuest::start().await;
    guest.set_down(true);
    let mut scene = Scene::new(|pod| {
        pod["spec"]["containers"][0]["lifecycle"] = json!({ "postStart": { "httpGet": guest.get("/hook") } });
        pod["spec"]["containers"][0]["startupProbe"] = guest.probe("/up", 100);
    })
    .await;
    scene.begin().await;
    guest.until_asked("/up", 1).await;
    scene.status("running", |status| status["containerStatuses"][0]["started"] == false).await;
    next_agent(&mut scene, |_| {}).await;
    guest.until_asked("/up", guest.asked("/up") + 1).await;
    guest.set_down(false);
    scene.status("ready", is_ready).await;
    assert_eq!(guest.asked("/hook"), 1);
    assert_eq!(scene.calls(), ["create app", "start app"]);
}

#[tokio::test]
async fn a_ready_container_stays_ready_in_the_next_agent_until_the_threshold_is_reached() {
    let guest = FakeGuest::start().await;
    let mut scene = Scene::new(|pod| pod["spec"]["containers"][0]["readinessProbe"] = guest.probe("/ready", 3)).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    let told = scene.api.told().borrow().statuses.len();
    next_agent(&mut scene, |_| guest.fail_once("/ready")).await;
    guest.until_asked("/ready", guest.asked("/ready") + 3).await;
    let since = scene.api.told().borrow().statuses[told..].to_vec();
    assert!(since.iter().all(is_ready), "{since:#?}");
    guest.set_down(true);
    scene.status("not ready", |status| !is_ready(status)).await;
}

#[tokio::test]
async fn what_was_told_of_an_attempt_is_not_believed_of_the_next() {
    let guest = FakeGuest::start().await;
    let mut scene = Scene::new(|pod| {
        let mut probe = guest.probe("/ready", 3);
        probe["timeoutSeconds"] = json!(60);
        pod["spec"]["containers"][0]["readinessProbe"] = probe;
    })
    .await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    guest.be_silent();
    next_agent(&mut scene, |container| container["containerID"] = json!("samara://before")).await;
    scene.status("not ready", |status| !is_ready(status)).await;
}

#[tokio::test]
async fn readiness_is_told_while_the_pod_ends_and_nothing_comes_of_liveness() {
    let guest = FakeGuest::start().await;
    let mut scene = Scene::new(|pod| {
        let app = &mut pod["spec"]["containers"][0];
        app["readinessProbe"] = guest.probe("/ready", 1);
        app["livenessProbe"] = guest.probe("/alive", 1);
        app["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 300 } } });
        pod["spec"]["terminationGracePeriodSeconds"] = json!(600);
    })
    .await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.delete(600);
    scene.told("killing", |told| told.events.iter().any(|(_, text)| text == "Stopping container app")).await;
    let alive = guest.asked("/alive");
    guest.set_down(true);
    scene.status("not ready", |status| !is_ready(status)).await;
    assert_eq!(scene.calls(), ["create app", "start app"], "the hook goes on");
    guest.until_asked("/ready", guest.asked("/ready") + 2).await;
    assert!(guest.asked("/alive") <= alive + 1, "one may have been under way");
    scene.delete(0);
    tokio::time::timeout(Duration::from_secs(20), scene.asked("signal 15 app")).await.unwrap();
}
