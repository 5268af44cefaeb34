//! The end of a pod: what is under way is finished, hooks run, and nothing hangs in Terminating.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams};
use samara_tests::load;
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{PATIENCE, Scene, pod_ip};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![
    a_request_that_is_under_way_is_finished_before_the_end,
    a_command_ends_at_once_when_asked,
    a_guest_that_never_yields_is_killed_when_its_grace_is_over,
    a_pre_stop_sleep_delays_the_end,
    a_pod_deleted_while_its_image_is_pulled_goes,
];

async fn a_request_that_is_under_way_is_finished_before_the_end(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::web().set(json!({ "terminationGracePeriodSeconds": 30 })).pod("web")).await?;
    let pod = scene.ready("web").await?;
    let address = SocketAddr::new(pod_ip(&pod).context("no address")?.parse()?, 8080);
    let slow = tokio::spawn(load::get(address, "/slow?ms=4000"));
    // The request has begun when a later one is answered.
    load::get(address, "/").await?;
    scene.api::<Pod>().delete("web", &DeleteParams::default()).await?;
    let body = slow.await?.context("the slow request")?;
    ensure!(body == "hello from v1 on web\n", "{body:?}");
    gone(scene, "web").await
}

async fn a_command_ends_at_once_when_asked(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::of("toolbox").set(json!({ "terminationGracePeriodSeconds": 60 })).pod("idle")).await?;
    scene.ready("idle").await?;
    let asked = Instant::now();
    scene.api::<Pod>().delete("idle", &DeleteParams::default()).await?;
    gone(scene, "idle").await?;
    ensure!(asked.elapsed() < Duration::from_secs(30), "took {:?} of a grace of 60 s", asked.elapsed());
    Ok(())
}

async fn a_guest_that_never_yields_is_killed_when_its_grace_is_over(scene: &Scene) -> Result<()> {
    let fields = json!({ "resources": { "limits": { "cpu": "100m" } } });
    scene
        .create::<Pod>(
            PodSpec::of("spin-cpu").main(fields).set(json!({ "terminationGracePeriodSeconds": 3 })).pod("busy"),
        )
        .await?;
    scene.log_with("busy", "rounds").await?;
    scene.api::<Pod>().delete("busy", &DeleteParams::default()).await?;
    gone(scene, "busy").await
}

async fn a_pre_stop_sleep_delays_the_end(scene: &Scene) -> Result<()> {
    let fields = json!({ "lifecycle": { "preStop": { "sleep": { "seconds": 4 } } } });
    scene
        .create::<Pod>(PodSpec::web().main(fields).set(json!({ "terminationGracePeriodSeconds": 30 })).pod("web"))
        .await?;
    let pod = scene.ready("web").await?;
    let address = SocketAddr::new(pod_ip(&pod).context("no address")?.parse()?, 8080);
    let asked = Instant::now();
    scene.api::<Pod>().delete("web", &DeleteParams::default()).await?;
    // It answers as before until the hook is over, and is gone some time after.
    while asked.elapsed() < Duration::from_millis(3500) {
        load::get(address, "/").await.with_context(|| format!("{:?} after the deletion", asked.elapsed()))?;
    }
    gone(scene, "web").await?;
    ensure!(asked.elapsed() >= Duration::from_secs(4), "gone after {:?}", asked.elapsed());
    Ok(())
}

async fn a_pod_deleted_while_its_image_is_pulled_goes(scene: &Scene) -> Result<()> {
    let spec = PodSpec::of("no-such-image");
    scene.create::<Pod>(spec.pod("hopeless")).await?;
    scene.event("hopeless", "Failed").await?;
    ensure!(scene.log("hopeless", &LogParams::default()).await.is_err(), "there is no container to have a log");
    scene.api::<Pod>().delete("hopeless", &DeleteParams::default()).await?;
    gone(scene, "hopeless").await
}

async fn gone(scene: &Scene, name: &str) -> Result<()> {
    until(format!("{name} is gone"), PATIENCE, async || {
        Ok(match scene.api::<Pod>().get_opt(name).await? {
            None => Seen::Yes(()),
            Some(pod) => Seen::NotYet(samara_tests::scene::describe(&pod)),
        })
    })
    .await
}
