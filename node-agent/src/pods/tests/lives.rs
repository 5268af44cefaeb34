//! Lives of pods, one sentence each.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use samara_core::pod::Termination;
use serde_json::{Value, json};

use super::front::OnStop;
use super::scene::{Scene, condition, is_ready, waiting};

/// However slow the machine, a pod starts within it.
const LONG: Duration = Duration::from_secs(15);

fn container(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

#[tokio::test]
async fn a_pod_that_starts_at_once_is_told_once_and_its_events_are_the_kubelets() {
    let mut scene = Scene::holding(LONG, |_| {}).await;
    scene.begin().await;
    let status = scene.status("ready", is_ready).await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "127.0.0.1");
    let id = container(&status)["containerID"].as_str().unwrap();
    assert_eq!(id.strip_prefix("samara://").map(str::len), Some(64), "{id}");
    assert_eq!(scene.calls(), ["create app", "start app"]);

    let told = scene.told("five events", |told| told.events.len() >= 4).await;
    assert_eq!(told.statuses.len(), 1, "{:#?}", told.statuses);
    let image = format!("\"{}/app:1\"", scene.registry.address);
    assert_eq!(told.events[0], ("Pulling".to_owned(), format!("Pulling image {image}")));
    assert_eq!(told.events[1].0, "Pulled");
    assert!(told.events[1].1.starts_with(&format!("Successfully pulled image {image} in ")), "{:?}", told.events[1]);
    assert_eq!(told.events[2], ("Created".to_owned(), "Container created".to_owned()));
    assert_eq!(told.events[3], ("Started".to_owned(), "Container started".to_owned()));
}

#[tokio::test]
async fn the_root_of_an_image_that_is_only_a_module_is_on_disk_and_goes_with_its_pod() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    let config = std::fs::read(scene.dir.path().join("run/bundles/uid-1/app_0/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let root = scene.dir.path().join("root/pods/uid-1/containers/app/0/rootfs");
    assert_eq!(config["root"]["path"], root.to_str().unwrap());
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "it is there, and empty");
    scene.delete(0);
    scene.told("deleted", |told| told.deletes == 1).await;
    scene.gone().await;
    assert!(!root.exists());
}

#[tokio::test]
async fn a_deleted_pod_is_asked_to_stop_and_leaves_nothing_behind() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.delete(30);
    let told = scene.told("deleted", |told| told.deletes == 1).await;
    assert_eq!(scene.calls(), ["create app", "start app", "signal 15 app", "delete app"]);
    let last = told.statuses.last().unwrap();
    assert!(matches!(last["phase"].as_str(), Some("Failed" | "Succeeded")), "the phase is final: {last:#}");
    assert_eq!(container(last)["state"]["terminated"]["exitCode"], 143);
    scene.told("killing", |told| told.events.iter().any(|(_, text)| text == "Stopping container app")).await;

    scene.gone().await;
    for left in ["root/pods/uid-1", "run/bundles/uid-1", "run/volumes/uid-1", "logs/shop_web_uid-1"] {
        assert!(!scene.dir.path().join(left).exists(), "{left}");
    }
    assert_eq!(std::fs::read_dir(scene.dir.path().join("links")).unwrap().count(), 0);
    assert_eq!(scene.api.told().borrow().deletes, 1);
}

#[tokio::test]
async fn a_guest_that_will_not_stop_is_killed_when_its_grace_is_over() {
    let mut scene = Scene::new(|_| {}).await;
    scene.front.on_stop(OnStop::Ignore);
    scene.begin().await;
    scene.status("ready", is_ready).await;
    let begun = std::time::Instant::now();
    scene.delete(3);
    let told = scene.told("deleted", |told| told.deletes == 1).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(container(told.statuses.last().unwrap())["state"]["terminated"]["exitCode"], 137);
    assert_eq!(scene.calls()[2..4], ["signal 15 app", "signal 9 app"]);
}

#[tokio::test]
async fn a_shorter_grace_cuts_a_longer_one() {
    let mut scene = Scene::new(|_| {}).await;
    scene.front.on_stop(OnStop::Ignore);
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.delete(300);
    scene.asked("signal 15 app").await;
    scene.delete(0);
    scene.asked("signal 9 app").await;
    scene.told("deleted", |told| told.deletes == 1).await;
}

#[tokio::test]
async fn a_crashed_container_is_started_again_and_then_waits() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.front.end("app", 3);
    let status =
        scene.status("a second attempt", |status| is_ready(status) && container(status)["restartCount"] == 1).await;
    assert_eq!(container(&status)["lastState"]["terminated"]["exitCode"], 3);
    scene.front.end("app", 4);
    let status = scene.status("back-off", |status| waiting(status) == "CrashLoopBackOff").await;
    assert!(!is_ready(&status));
    assert_eq!(container(&status)["lastState"]["terminated"]["exitCode"], 4);
    let message = container(&status)["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "back-off 10s restarting failed container=app pod=web_shop(uid-1)");
    scene.told("event", |told| told.events.iter().any(|(reason, _)| reason == "BackOff")).await;
    assert_eq!(scene.calls().iter().filter(|call| *call == "start app").count(), 2);
}

#[tokio::test]
async fn a_container_that_is_done_makes_its_pod_succeed_and_nothing_is_deleted() {
    let mut scene = Scene::new(|pod| pod["spec"]["restartPolicy"] = json!("Never")).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    std::fs::write(scene.dir.path().join("root/pods/uid-1/containers/app/0/termination-log"), "all is well").unwrap();
    scene.front.end("app", 0);
    let status = scene.status("succeeded", |status| status["phase"] == "Succeeded").await;
    let terminated = &container(&status)["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&json!(0), &json!("Completed")));
    assert_eq!(terminated["message"], "all is well");
    assert_eq!(condition(&status, "PodReadyToStartContainers"), "False");
    assert_eq!(scene.api.told().borrow().deletes, 0);
    scene.delete(0);
    scene.told("deleted", |told| told.deletes == 1).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_is_followed_by_one_that_finds_everything_as_it_was() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    let before = scene.status("ready", is_ready).await;
    scene.kill_worker().await;
    scene.change(|pod| pod.status = serde_json::from_value(before.clone()).unwrap());
    scene.begin().await;
    scene.front.end("app", 5);
    let after =
        scene.status("a second attempt", |status| is_ready(status) && container(status)["restartCount"] == 1).await;
    assert_eq!(container(&after)["lastState"]["terminated"]["containerID"], container(&before)["containerID"]);
    assert_eq!(scene.calls(), ["create app", "start app", "delete app", "create app", "start app"]);
    assert_eq!(scene.registry.pulls(), 1);
}

#[tokio::test]
async fn an_end_that_nobody_looked_at_is_found_by_the_next_worker() {
    let mut scene = Scene::new(|pod| pod["spec"]["restartPolicy"] = json!("Never")).await;
    scene.begin().await;
    let before = scene.status("ready", is_ready).await;
    scene.kill_worker().await;
    scene.front.end("app", 7);
    scene.change(|pod| pod.status = serde_json::from_value(before.clone()).unwrap());
    scene.begin().await;
    let status = scene.status("failed", |status| status["phase"] == "Failed").await;
    assert_eq!(container(&status)["state"]["terminated"]["exitCode"], 7);
    assert_eq!(container(&status)["restartCount"], 0);
}

#[tokio::test]
async fn the_front_dies_and_the_pod_does_not() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.replace_front().await;
    scene.front.end("app", 9);
    let status =
        scene.status("a second attempt", |status| is_ready(status) && container(status)["restartCount"] == 1).await;
    assert_eq!(container(&status)["lastState"]["terminated"]["exitCode"], 9);
}

#[tokio::test]
async fn a_missing_config_map_holds_the_pod_until_it_is_there() {
    let mut scene = Scene::new(|pod| {
        pod["spec"]["volumes"] = json!([{ "name": "settings", "configMap": { "name": "app" } }]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "settings", "mountPath": "/etc/app" }]);
    })
    .await;
    scene.begin().await;
    let told = scene.told("event", |told| told.events.iter().any(|(reason, _)| reason == "FailedMount")).await;
    let want = "MountVolume.SetUp failed for volume \"settings\" : configmap \"app\" not found";
    assert_eq!(told.events.iter().find(|(reason, _)| reason == "FailedMount").unwrap().1, want);
    scene.status("creating", |status| waiting(status) == "ContainerCreating").await;
    assert_eq!(scene.calls(), Vec::<String>::new());
    scene.api.put_config_map("app", json!({ "colour": "red" }));
    scene.status("ready", is_ready).await;
    let file = scene.dir.path().join("run/volumes/uid-1/settings/colour");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "red");

    scene.api.put_config_map("app", json!({ "colour": "blue" }));
    holds(&file, "blue").await;
}

/// Waits until a file of a volume has this text.
async fn holds(file: &Path, text: &str) {
    for _ in 0..2000 {
        if std::fs::read_to_string(file).unwrap() == text {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the volume still says {:?}, not {text:?}", std::fs::read_to_string(file));
}

#[tokio::test]
async fn a_token_is_replaced_in_its_volume_before_it_ends_and_the_container_goes_on() {
    let mut scene = Scene::new(|pod| {
        let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 600 } });
        pod["spec"]["volumes"] = json!([{ "name": "access", "projected": { "sources": [token] } }]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "access", "mountPath": "/access" }]);
    })
    .await;
    // Four fifths of it are over in less than a second; the second one lasts.
    scene.api.set_first_token_life(Duration::from_secs(1));
    scene.begin().await;
    scene.status("ready", is_ready).await;
    let file = scene.dir.path().join("run/volumes/uid-1/access/token");
    holds(&file, "token 2").await;
    assert_eq!(scene.api.told().borrow().tokens, 2);
    assert_eq!(scene.calls(), ["create app", "start app"]);
}

#[tokio::test]
async fn a_token_that_is_not_renewed_is_kept_while_it_is_good_and_keeps_nothing_else_from_its_volume() {
    let mut scene = Scene::new(|pod| {
        let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 600 } });
        let settings = json!({ "configMap": { "name": "app" } });
        pod["spec"]["volumes"] = json!([{ "name": "access", "projected": { "sources": [token, settings] } }]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "access", "mountPath": "/access" }]);
    })
    .await;
    // An earlier agent's: a day old, and good for another hour.
    let now = Timestamp::now().as_second();
    let claims = json!({ "iat": now - 90_000, "exp": now + 3_600 }).to_string();
    let held = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let volume = scene.dir.path().join("run/volumes/uid-1/access");
    std::fs::create_dir_all(volume.join("..before")).unwrap();
    std::fs::write(volume.join("..before/token"), &held).unwrap();
    symlink("..before", volume.join("..data")).unwrap();
    symlink("..data/token", volume.join("token")).unwrap();

    scene.api.refuse_tokens();
    scene.api.put_config_map("app", json!({ "colour": "red" }));
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.told("a renewal was asked for", |told| told.tokens > 0).await;
    scene.api.put_config_map("app", json!({ "colour": "blue" }));
    holds(&volume.join("colour"), "blue").await;
    assert_eq!(std::fs::read_to_string(volume.join("token")).unwrap(), held);
}

#[tokio::test]
async fn a_token_is_asked_for_while_the_pod_has_no_address_yet() {
    let mut scene = Scene::new(|pod| {
        let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 600 } });
        pod["spec"]["volumes"] = json!([{ "name": "access", "projected": { "sources": [token] } }]);
        pod["spec"]["hostNetwork"] = json!(false);
    })
    .await;
    scene.begin().await;
    let told = scene.told("a token was asked for", |told| told.tokens == 1).await;
    assert_eq!(told.events, [], "it is not told of yet that there is no network");
    // Nor is it asked for again when the next try finds no network either.
    let told = scene.told("no network", |told| told.events.iter().any(|(reason, _)| reason == "NetworkNotReady")).await;
    assert_eq!(told.tokens, 1);
    assert_eq!(scene.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_container_that_starts_again_knows_the_services_of_that_moment() {
    let mut scene = Scene::new(|pod| pod["spec"]["enableServiceLinks"] = json!(true)).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.api.add_service("db", "10.0.0.9", 5432);
    let services = scene.context().objects.services.clone();
    while services.of("shop").await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.front.end("app", 1);
    scene.status("a second attempt", |status| is_ready(status) && container(status)["restartCount"] == 1).await;
    let knows = [0, 1].map(|attempt| {
        let config = scene.dir.path().join(format!("run/bundles/uid-1/app_{attempt}/config.json"));
        std::fs::read_to_string(config).unwrap().contains("DB_SERVICE_HOST=10.0.0.9")
    });
    assert_eq!(knows, [false, true]);
}

#[tokio::test]
async fn a_missing_key_in_the_environment_is_named_and_waited_for() {
    let mut scene = Scene::new(|pod| {
        let source = json!({ "configMapKeyRef": { "name": "app", "key": "colour" } });
        pod["spec"]["containers"][0]["env"] = json!([{ "name": "COLOUR", "valueFrom": source }]);
    })
    .await;
    scene.api.put_config_map("app", json!({}));
    scene.begin().await;
    let status = scene.status("config error", |status| waiting(status) == "CreateContainerConfigError").await;
    let message = container(&status)["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "couldn't find key colour in ConfigMap shop/app");
    scene.api.put_config_map("app", json!({ "colour": "red" }));
    scene.status("ready", is_ready).await;
}

#[tokio::test]
async fn a_registry_that_is_down_is_named_and_tried_again_with_a_growing_delay() {
    let mut scene = Scene::new(|_| {}).await;
    scene.registry.set_down(true);
    scene.begin().await;
    let status = scene.status("pull error", |status| waiting(status) == "ErrImagePull").await;
    let message = container(&status)["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&scene.registry.address.to_string()) && message.contains("500"), "{message}");
    let status = scene.status("back-off", |status| waiting(status) == "ImagePullBackOff").await;
    let message = container(&status)["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Back-off pulling image \""), "{message}");
    scene.registry.set_down(false);
    scene.status("ready", is_ready).await;
    scene
        .told("events", |told| {
            let has =
                |reason: &str, text: &str| told.events.iter().any(|event| event.0 == reason && event.1.contains(text));
            has("Failed", "Failed to pull image")
                && has("Failed", "Error: ErrImagePull")
                && has("BackOff", "Back-off pulling")
        })
        .await;
}

#[tokio::test]
async fn a_module_that_cannot_be_compiled_is_a_pull_error_with_the_compilers_words() {
    let mut scene = Scene::new(|_| {}).await;
    scene.compiler.refuse(Some("unknown import wasi:gpu/compute"));
    scene.begin().await;
    let status = scene.status("pull error", |status| waiting(status) == "ErrImagePull").await;
    let message = container(&status)["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("unknown import wasi:gpu/compute"), "{message}");
    assert_eq!(scene.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn an_image_that_may_not_be_pulled_and_a_name_that_is_none_are_told_as_such() {
    let table = [
        ("ErrImageNeverPull", json!({ "imagePullPolicy": "Never" })),
        ("InvalidImageName", json!({ "image": "Not A Name" })),
    ];
    for (reason, change) in table {
        let mut scene = Scene::new(|pod| {
            let container = pod["spec"]["containers"][0].as_object_mut().unwrap();
            container.extend(change.as_object().unwrap().clone());
        })
        .await;
        scene.begin().await;
        scene.status(reason, |status| waiting(status) == reason).await;
        assert_eq!(scene.registry.pulls(), 0);
    }
}

#[tokio::test]
async fn what_the_front_refuses_is_told_in_its_words_and_nothing_is_left_of_the_try() {
    let mut scene = Scene::new(|_| {}).await;
    scene.front.refuse(Some("no such device"));
    scene.begin().await;
    let status = scene.status("create error", |status| waiting(status) == "CreateContainerError").await;
    assert_eq!(container(&status)["state"]["waiting"]["message"], "no such device");
    assert_eq!(std::fs::read_dir(scene.dir.path().join("run/bundles/uid-1")).unwrap().count(), 0);
    scene.delete(0);
    scene.told("deleted", |told| told.deletes == 1).await;
}

#[tokio::test]
async fn init_containers_go_before_and_one_after_the_other() {
    let mut scene = Scene::new(|pod| {
        let image = pod["spec"]["containers"][0]["image"].clone();
        pod["spec"]["initContainers"] =
            json!([{ "name": "first", "image": image }, { "name": "second", "image": image }]);
    })
    .await;
    scene.begin().await;
    scene.asked("start first").await;
    assert!(!scene.calls().contains(&"create second".to_owned()));
    scene.front.end("first", 0);
    scene.asked("start second").await;
    assert!(!scene.calls().contains(&"create app".to_owned()));
    scene.front.end("second", 0);
    let status = scene.status("ready", is_ready).await;
    assert_eq!(status["initContainerStatuses"][1]["state"]["terminated"]["reason"], "Completed");
}

#[tokio::test]
async fn readiness_follows_what_the_pod_answers_and_the_first_try_comes_when_it_listens() {
    // A port that is free now; the "guest" is this test.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut scene = Scene::new(|pod| {
        pod["spec"]["containers"][0]["readinessProbe"] =
            json!({ "tcpSocket": { "port": port }, "periodSeconds": 1, "failureThreshold": 1 });
    })
    .await;
    scene.begin().await;
    let status = scene.status("running", |status| status["phase"] == "Running").await;
    assert!(!is_ready(&status));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    scene.status("ready", is_ready).await;
    drop(listener);
    let status = scene.status("not ready", |status| !is_ready(status)).await;
    assert_eq!(container(&status)["started"], true);
    scene
        .told("event", |told| {
            told.events
                .iter()
                .any(|(reason, text)| reason == "Unhealthy" && text.starts_with("Readiness probe failed: "))
        })
        .await;
    assert_eq!(scene.calls(), ["create app", "start app"]);
}

#[tokio::test]
async fn a_container_that_fails_its_liveness_probe_is_ended_and_started_again() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut scene = Scene::new(|pod| {
        pod["spec"]["containers"][0]["livenessProbe"] =
            json!({ "tcpSocket": { "port": port }, "periodSeconds": 1, "failureThreshold": 1 });
    })
    .await;
    scene.begin().await;
    scene.status("a second attempt", |status| container(status)["restartCount"] == 1).await;
    assert_eq!(scene.calls()[..5], ["create app", "start app", "signal 15 app", "delete app", "create app"]);
    let want = "Container app failed liveness probe, will be restarted";
    scene.told("event", |told| told.events.iter().any(|(_, text)| text == want)).await;
}

#[tokio::test]
async fn a_pre_stop_hook_comes_before_the_signal_and_takes_from_the_grace() {
    let mut scene = Scene::new(|pod| {
        pod["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 1 } } });
    })
    .await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    let begun = std::time::Instant::now();
    scene.delete(30);
    scene.asked("signal 15 app").await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_post_start_hook_that_fails_ends_the_container() {
    let mut scene = Scene::new(|pod| {
        let hook = json!({ "postStart": { "httpGet": { "host": "127.0.0.1", "port": 1 } } });
        pod["spec"]["containers"][0]["lifecycle"] = hook;
        pod["spec"]["restartPolicy"] = json!("Never");
    })
    .await;
    scene.begin().await;
    scene.asked("signal 15 app").await;
    scene
        .told("event", |told| {
            told.events.iter().any(|event| event.0 == "FailedPostStartHook" && event.1 == "PostStartHook failed")
        })
        .await;
    scene.status("failed", |status| status["phase"] == "Failed").await;
}

#[tokio::test]
async fn a_pod_that_the_node_refuses_fails_with_the_reason_and_makes_nothing() {
    let mut scene = Scene::new(|_| {}).await;
    scene.end_by_node(Termination {
        reason: "OutOfcpu",
        message: "Pod was rejected: Node didn't have enough resource: cpu".to_owned(),
        requested_at: Timestamp::now(),
        grace: Some(Duration::ZERO),
    });
    scene.begin().await;
    let status = scene.status("failed", |status| status["phase"] == "Failed").await;
    assert_eq!(status["reason"], "OutOfcpu");
    assert_eq!(scene.calls(), Vec::<String>::new());
    assert_eq!(scene.registry.pulls(), 0);
}

#[tokio::test]
async fn a_conflict_about_the_pod_itself_is_no_reason_not_to_tell_its_end() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.api.conflict(2, "uid-1");
    scene.delete(30);
    let told = scene.told("deleted", |told| told.deletes == 1).await;
    assert_eq!(container(told.statuses.last().unwrap())["state"]["terminated"]["exitCode"], 143);
}

#[tokio::test]
async fn nothing_is_told_to_another_pod_of_the_same_name() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    let before = scene.told("ready", |told| told.statuses.last().is_some_and(is_ready)).await;
    scene.api.conflict(usize::MAX, "uid-2");
    scene.delete(30);
    scene.asked("delete app").await;
    scene.gone().await;
    assert_eq!(
        (scene.api.told().borrow().statuses.len(), scene.api.told().borrow().deletes),
        (before.statuses.len(), 0)
    );
}

#[tokio::test]
async fn what_happens_while_the_api_server_is_away_is_told_when_it_is_back() {
    let mut scene = Scene::holding(LONG, |pod| pod["spec"]["restartPolicy"] = json!("Never")).await;
    scene.begin().await;
    scene.status("ready", is_ready).await;
    scene.api.set_away(true);
    scene.front.end("app", 0);
    scene.asked("delete app").await;
    scene.api.set_away(false);
    let told =
        scene.told("succeeded", |told| told.statuses.last().is_some_and(|last| last["phase"] == "Succeeded")).await;
    assert_eq!(told.statuses.len(), 2);
}

#[tokio::test]
async fn a_pod_whose_object_vanishes_is_ended_and_told_no_more() {
    let mut scene = Scene::new(|_| {}).await;
    scene.begin().await;
    let told = scene.told("ready", |told| told.statuses.last().is_some_and(is_ready)).await;
    scene.gone().await;
    assert_eq!(scene.calls()[2..], ["signal 15 app", "delete app"]);
    assert_eq!(scene.api.told().borrow().statuses.len(), told.statuses.len());
    assert_eq!(scene.api.told().borrow().deletes, 0);
}
