//! Versions come and go, readiness gates, and no request is lost.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use samara_tests::load::{self, Load, Way};
use samara_tests::manifest::{PodSpec, service};
use samara_tests::samples::image;
use samara_tests::scene::{PATIENCE, Scene, container_state, pod_ip};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![
    a_rolling_update_and_a_rollback_lose_no_request_to_the_endpoints,
    a_rolling_update_and_a_rollback_lose_no_request_through_the_api_server,
    a_pod_that_is_not_ready_is_no_endpoint,
    a_pod_becomes_ready_and_unready_as_its_probe_says,
    a_failing_liveness_probe_restarts_the_container,
    a_startup_probe_holds_the_others_back,
];

async fn a_rolling_update_and_a_rollback_lose_no_request_to_the_endpoints(scene: &Scene) -> Result<()> {
    update_and_roll_back(scene, Way::Endpoints).await
}

async fn a_rolling_update_and_a_rollback_lose_no_request_through_the_api_server(scene: &Scene) -> Result<()> {
    update_and_roll_back(scene, Way::ApiServer).await
}

async fn update_and_roll_back(scene: &Scene, way: Way) -> Result<()> {
    scene.apply_sample("http-hello").await?;
    scene.ready_pods("app=http-hello", 3).await?;
    let load = Load::start(scene.cluster().client(), scene.namespace(), "http-hello", way).await?;
    load.more(50).await?;
    scene
        .kubectl(&["set", "image", "deployment/http-hello", &format!("http-hello={}", image("http-hello:v2"))])
        .await?;
    scene.kubectl(&["rollout", "status", "deployment/http-hello", "--timeout=120s"]).await?;
    load.more(50).await?;
    scene.kubectl(&["rollout", "undo", "deployment/http-hello"]).await?;
    scene.kubectl(&["rollout", "status", "deployment/http-hello", "--timeout=120s"]).await?;
    load.more(50).await?;
    gone_down_to_three(scene).await?;
    let tally = load.finish().await;
    tally.no_failure()?;
    ensure!(
        tally.with("from v1") > 50 && tally.with("from v2") > 50,
        "both versions must have answered: {:?}",
        tally.answers
    );
    Ok(())
}

/// The roll-out is complete before the last old pod is gone: its draining is part of what is shown.
async fn gone_down_to_three(scene: &Scene) -> Result<()> {
    until("only three pods are left", PATIENCE, async || {
        let pods = scene.api::<Pod>().list(&ListParams::default().labels("app=http-hello")).await?.items;
        Ok(Seen::when(pods.len() == 3, format!("{} pods", pods.len())))
    })
    .await
}

/// Addresses which the Service would send requests to.
async fn ready_endpoints(scene: &Scene, name: &str) -> Result<Vec<String>> {
    let list = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices = scene.api::<EndpointSlice>().list(&list).await?.items;
    let all = slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
    let ready =
        all.filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true));
    Ok(ready.flat_map(|endpoint| endpoint.addresses).collect())
}

fn web(probe: serde_json::Value) -> PodSpec {
    PodSpec::of("http-hello").main(json!({ "ports": [{ "containerPort": 8080 }], "readinessProbe": probe }))
}

async fn a_pod_that_is_not_ready_is_no_endpoint(scene: &Scene) -> Result<()> {
    let never =
        json!({ "httpGet": { "path": "/no-such-path", "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 10 });
    scene.create::<k8s_openapi::api::core::v1::Service>(service("web", 8080)).await?;
    scene.create::<Pod>(web(never).labels(json!({ "app": "web" })).pod("web")).await?;
    let message = scene.event("web", "Unhealthy").await?;
    ensure!(message.contains("Readiness probe failed: HTTP probe failed with statuscode: 404"), "{message}");
    let pod = scene.pod_until("web", "has an address", |pod| pod_ip(pod).is_some()).await?;
    let status = container_state(&pod, "http-hello").context("no status")?;
    ensure!(!status.ready && status.restart_count == 0, "{status:?}");
    ensure!(ready_endpoints(scene, "web").await?.is_empty(), "it is an endpoint");
    Ok(())
}

async fn a_pod_becomes_ready_and_unready_as_its_probe_says(scene: &Scene) -> Result<()> {
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1 });
    let mounts = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }], "env": [{ "name": "UNHEALTHY_FILE", "value": "/data/sick" }] });
    let switch = samara_tests::manifest::with(
        samara_tests::manifest::container("switch", "toolbox"),
        json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }),
    );
    let mut spec = web(probe).main(mounts).set(json!({ "volumes": [{ "name": "data", "emptyDir": {} }] }));
    spec = spec.and(switch);
    scene.create::<k8s_openapi::api::core::v1::Service>(service("web", 8080)).await?;
    scene.create::<Pod>(spec.labels(json!({ "app": "web" })).pod("web")).await?;
    let ready =
        |wanted: bool| move |pod: &Pod| container_state(pod, "http-hello").is_some_and(|status| status.ready == wanted);
    scene.pod_until("web", "is ready at first", ready(true)).await?;
    scene.kubectl(&["exec", "web", "-c", "switch", "--", "mkdir", "/data/sick"]).await?;
    scene.pod_until("web", "is not ready when its probe fails", ready(false)).await?;
    until("it is no endpoint", PATIENCE, async || {
        Ok(Seen::when(ready_endpoints(scene, "web").await?.is_empty(), "it is"))
    })
    .await?;
    scene.kubectl(&["exec", "web", "-c", "switch", "--", "rm", "-r", "/data/sick"]).await?;
    scene.pod_until("web", "is ready again", ready(true)).await?;
    Ok(())
}

async fn a_failing_liveness_probe_restarts_the_container(scene: &Scene) -> Result<()> {
    let probe =
        json!({ "httpGet": { "path": "/no-such-path", "port": 8080 }, "periodSeconds": 1, "failureThreshold": 2 });
    scene.create::<Pod>(PodSpec::of("http-hello").main(json!({ "livenessProbe": probe })).pod("web")).await?;
    scene
        .pod_until("web", "was restarted", |pod| {
            container_state(pod, "http-hello").is_some_and(|status| status.restart_count > 0)
        })
        .await?;
    let killing = scene.event("web", "Killing").await?;
    ensure!(killing == "Container http-hello failed liveness probe, will be restarted", "{killing}");
    Ok(())
}

async fn a_startup_probe_holds_the_others_back(scene: &Scene) -> Result<()> {
    let startup =
        json!({ "httpGet": { "path": "/no-such-path", "port": 8080 }, "periodSeconds": 1, "failureThreshold": 60 });
    let readiness = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 });
    let fields = json!({ "startupProbe": startup, "readinessProbe": readiness });
    scene.create::<Pod>(PodSpec::of("http-hello").main(fields).pod("web")).await?;
    scene.event("web", "Unhealthy").await?;
    let pod = scene.pod_until("web", "runs", |pod| pod_ip(pod).is_some()).await?;
    let address = SocketAddr::new(pod_ip(&pod).context("no address")?.parse()?, 8080);
    load::get(address, "/healthz").await.context("the readiness probe would succeed")?;
    let status = container_state(&pod, "http-hello").context("no status")?;
    ensure!(status.started == Some(false) && !status.ready, "{status:?}");
    Ok(())
}
