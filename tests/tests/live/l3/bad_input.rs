//! Bad images, bad registries, bad modules: each is refused with a message that names the thing, and nothing is lost.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use axum::body::Bytes;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use samara_images::{ImageConfig, RootfsBuilder};
use samara_tests::crooked::{Answer, Crooked};
use samara_tests::manifest::PodSpec;
use samara_tests::samples;
use samara_tests::scene::{PATIENCE, Scene, container_state, describe};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![
    an_image_that_is_not_wasm_is_refused_by_name,
    a_truncated_module_is_refused_by_name,
    an_image_that_lies_about_its_digest_is_refused_by_name,
    an_image_for_linux_is_refused_by_name,
    precompiled_code_is_refused_by_name,
    a_registry_that_is_down_is_named_and_tried_again,
    a_registry_that_answers_401_404_or_500_is_told_apart,
    a_registry_that_cuts_the_connection_is_named_and_the_pod_starts_when_it_is_well,
    an_invalid_image_name_is_told,
    a_never_pulled_image_that_is_not_there_is_told,
    an_unknown_import_is_named,
    a_module_without_start_is_told,
    a_guest_that_traps_at_once_is_134,
    a_guest_that_loops_in_its_start_function_is_ended_when_deleted,
    a_guest_that_asks_for_four_gigabytes_is_ended_and_the_node_lives,
    a_guest_that_declares_four_gigabytes_is_ended_by_its_limit_and_lives_without_one,
    a_pod_that_the_node_has_no_room_for_is_not_run,
    an_invalid_quantity_is_refused_by_the_api_server,
    a_pod_refused_again_and_again_stays_pending_and_is_not_failed,
];

/// A pod of this image; it is called `bad`.
async fn run(scene: &Scene, image: &str) -> Result<()> {
    let spec =
        PodSpec::of("hello").main(json!({ "image": image, "name": "app" })).set(json!({ "restartPolicy": "Never" }));
    scene.create::<Pod>(spec.pod("bad")).await.map(drop)
}

/// Waits until the container waits for one of these reasons with a message that holds all words.
async fn refused(scene: &Scene, reasons: &[&str], words: &[&str]) -> Result<()> {
    scene
        .object_until("bad", &format!("waits with {reasons:?} and the words {words:?}"), PATIENCE, |pod: &Pod| {
            let waiting =
                container_state(pod, "app").and_then(|status| status.state.clone()?.waiting).unwrap_or_default();
            let (reason, message) = (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default());
            let good = reasons.contains(&reason.as_str())
                && words.iter().all(|word| message.to_lowercase().contains(&word.to_lowercase()));
            Seen::when(good, describe(pod))
        })
        .await?;
    let pod = scene.api::<Pod>().get("bad").await?;
    let phase = pod.status.and_then(|status| status.phase);
    ensure!(phase.as_deref() == Some("Pending"), "phase {phase:?}: a controller would replace a Failed pod for ever");
    Ok(())
}

const PULL: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];
const REFUSAL: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"];

fn module(text: &str) -> Result<Vec<u8>> {
    wat::parse_str(text).context("the test's own module")
}

/// Serves these bytes as an image called `bad`, and runs it.
async fn run_bytes(scene: &Scene, bytes: &[u8]) -> Result<Crooked> {
    let registry = Crooked::start(scene.node())?;
    registry.honest("bad", bytes);
    run(scene, &registry.image("bad")).await?;
    Ok(registry)
}

async fn an_image_that_is_not_wasm_is_refused_by_name(scene: &Scene) -> Result<()> {
    let registry = run_bytes(scene, b"#!/bin/sh\necho I am a shell script\n").await?;
    refused(scene, &REFUSAL, &[&registry.image("bad"), "not WebAssembly"]).await
}

async fn a_truncated_module_is_refused_by_name(scene: &Scene) -> Result<()> {
    let whole = std::fs::read(samples::artifact("wasm32-wasip1/release/hello.wasm"))?;
    let registry = run_bytes(scene, &whole[..whole.len() / 2]).await?;
    refused(scene, &REFUSAL, &[&registry.image("bad"), "truncated"]).await
}

async fn an_image_that_lies_about_its_digest_is_refused_by_name(scene: &Scene) -> Result<()> {
    let (claimed, sent) = (module("(module)")?, module("(module (memory 1))")?);
    let registry = Crooked::start(scene.node())?;
    registry.artifact("bad", &claimed, Answer::Content("application/octet-stream", Bytes::from(sent)));
    run(scene, &registry.image("bad")).await?;
    refused(scene, &PULL, &[&registry.image("bad"), "sha256:"]).await
}

async fn an_image_for_linux_is_refused_by_name(scene: &Scene) -> Result<()> {
    let elf = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 64]].concat();
    let config = ImageConfig { entrypoint: vec!["/bin/app".into()], ..ImageConfig::default() };
    let image =
        RootfsBuilder::new().config(config).platform("linux", "amd64").bytes("/bin/app", elf, 0o755)?.build()?;
    let name = samples::image(&format!("for-linux-{}", scene.namespace()));
    samples::push(&samples::pusher(), &name, image).await?;
    run(scene, &name).await?;
    refused(scene, &REFUSAL, &[&name, "linux/amd64"]).await
}

async fn precompiled_code_is_refused_by_name(scene: &Scene) -> Result<()> {
    // What the node itself compiled would run at once, if anyone let it in.
    scene.create::<Pod>(PodSpec::of("hello").set(json!({ "restartPolicy": "Never" })).pod("hello")).await?;
    scene.over("hello").await?;
    let code = compiled(&scene.node().root_dir().join("code")).context("no compiled code on the node")?;
    let registry = run_bytes(scene, &std::fs::read(code)?).await?;
    refused(scene, &REFUSAL, &[&registry.image("bad"), "precompiled"]).await
}

/// Any file of the code cache.
fn compiled(dir: &Path) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            compiled(&path)
        } else {
            Some(path).filter(|path| path.extension() == Some("cwasm".as_ref()))
        }
    })
}

async fn a_registry_that_is_down_is_named_and_tried_again(scene: &Scene) -> Result<()> {
    // Port 1 of the node's loopback: nobody listens there.
    run(scene, "localhost:1/some/image:v1").await?;
    refused(scene, &PULL, &["localhost:1"]).await?;
    let failed = scene.event("bad", "Failed").await?;
    ensure!(failed.starts_with("Failed to pull image \"localhost:1/some/image:v1\":"), "{failed}");
    let back_off = scene.event("bad", "BackOff").await?;
    ensure!(back_off == "Back-off pulling image \"localhost:1/some/image:v1\"", "{back_off}");
    Ok(())
}

async fn a_registry_that_answers_401_404_or_500_is_told_apart(scene: &Scene) -> Result<()> {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
        let registry = Crooked::start(scene.node())?;
        registry.answer("bad/manifests/v1", Answer::Status(status));
        run(scene, &registry.image("bad")).await?;
        refused(scene, &PULL, &[&registry.image("bad"), status.as_str()]).await?;
        let uid = scene.api::<Pod>().get("bad").await?.metadata.uid.unwrap_or_default();
        let of_this_pod = ListParams::default().fields(&format!("involvedObject.uid={uid},reason=Failed"));
        until(format!("an event says {status}"), PATIENCE, async || {
            let events = scene.api::<Event>().list(&of_this_pod).await?.items;
            let told: Vec<_> = events.into_iter().filter_map(|event| event.message).collect();
            // As a word of its own: the registry's port may hold the same digits.
            let is =
                |message: &String| message.split(|one: char| !one.is_ascii_digit()).any(|word| word == status.as_str());
            Ok(Seen::when(told.iter().any(is), format!("only {told:?}")))
        })
        .await?;
        scene.delete::<Pod>("bad").await?;
    }
    Ok(())
}

async fn a_registry_that_cuts_the_connection_is_named_and_the_pod_starts_when_it_is_well(scene: &Scene) -> Result<()> {
    let mut hello = std::fs::read(samples::artifact("wasm32-wasip1/release/hello.wasm"))?;
    // A custom section of its own: what is in the node's store already would not be fetched.
    hello.extend_from_slice(b"\0\x04\x03cut");
    let registry = Crooked::start(scene.node())?;
    registry.artifact("bad", &hello, Answer::Cut("application/octet-stream", hello.clone().into()));
    run(scene, &registry.image("bad")).await?;
    refused(scene, &PULL, &[&registry.image("bad")]).await?;
    registry.honest("bad", &hello);
    let pod = scene.over("bad").await?;
    let end =
        container_state(&pod, "app").and_then(|status| status.state.clone()?.terminated).context("not terminated")?;
    ensure!(end.exit_code == 0, "{end:?}");
    Ok(())
}

async fn an_invalid_image_name_is_told(scene: &Scene) -> Result<()> {
    run(scene, "UPPER CASE/and spaces").await?;
    refused(scene, &["InvalidImageName"], &["UPPER CASE/and spaces"]).await
}

async fn a_never_pulled_image_that_is_not_there_is_told(scene: &Scene) -> Result<()> {
    let image = "localhost:5000/samara/never-pulled:v9";
    let spec = PodSpec::of("hello").main(json!({ "image": image, "name": "app", "imagePullPolicy": "Never" }));
    scene.create::<Pod>(spec.pod("bad")).await?;
    refused(
        scene,
        &["ErrImageNeverPull"],
        &[&format!("Container image \"{image}\" is not present with pull policy of Never")],
    )
    .await
}

async fn an_unknown_import_is_named(scene: &Scene) -> Result<()> {
    let bytes = module(
        r#"(module (import "wasi_snapshot_preview1" "fd_wriet" (func (param i32 i32 i32 i32) (result i32))) (func (export "_start")))"#,
    )?;
    let _registry = run_bytes(scene, &bytes).await?;
    refused(scene, &REFUSAL, &["fd_wriet", "fd_write"]).await
}

async fn a_module_without_start_is_told(scene: &Scene) -> Result<()> {
    let _registry = run_bytes(scene, &module(r#"(module (func (export "run")))"#)?).await?;
    refused(scene, &REFUSAL, &["_start"]).await
}

async fn a_guest_that_traps_at_once_is_134(scene: &Scene) -> Result<()> {
    let _registry = run_bytes(scene, &module(r#"(module (func (export "_start") unreachable))"#)?).await?;
    let pod = scene.over("bad").await?;
    let end =
        container_state(&pod, "app").and_then(|status| status.state.clone()?.terminated).context("not terminated")?;
    ensure!(end.exit_code == 134 && end.reason.as_deref() == Some("Error"), "{end:?}");
    scene.log_with("bad", "unreachable").await.map(drop)
}

async fn a_guest_that_loops_in_its_start_function_is_ended_when_deleted(scene: &Scene) -> Result<()> {
    let bytes = module(r#"(module (func $spin (loop br 0)) (start $spin) (func (export "_start")))"#)?;
    let registry = Crooked::start(scene.node())?;
    registry.honest("bad", &bytes);
    let limits = json!({ "image": registry.image("bad"), "name": "app", "resources": { "limits": { "cpu": "50m" } } });
    scene
        .create::<Pod>(PodSpec::of("hello").main(limits).set(json!({ "terminationGracePeriodSeconds": 2 })).pod("bad"))
        .await?;
    scene
        .pod_until("bad", "runs", |pod| {
            pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
        })
        .await?;
    scene.delete::<Pod>("bad").await
}

async fn a_guest_that_asks_for_four_gigabytes_is_ended_and_the_node_lives(scene: &Scene) -> Result<()> {
    let bytes = module(
        r#"(module (memory 1)
             (func (export "_start")
               (local $at i32)
               (if (i32.eq (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))
               (loop $touch
                 (i32.store (local.get $at) (i32.const 1))
                 (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                 (br_if $touch (i32.ne (local.get $at) (i32.const 0))))))"#,
    )?;
    let registry = Crooked::start(scene.node())?;
    registry.honest("bad", &bytes);
    let limits =
        json!({ "image": registry.image("bad"), "name": "app", "resources": { "limits": { "memory": "32Mi" } } });
    scene.create::<Pod>(PodSpec::of("hello").main(limits).set(json!({ "restartPolicy": "Never" })).pod("bad")).await?;
    let pod = scene.over("bad").await?;
    let end =
        container_state(&pod, "app").and_then(|status| status.state.clone()?.terminated).context("not terminated")?;
    ensure!(end.exit_code == 137 && end.reason.as_deref() == Some("OOMKilled"), "{end:?}");
    scene.create::<Pod>(PodSpec::of("hello").set(json!({ "restartPolicy": "Never" })).pod("after")).await?;
    scene.over("after").await.map(drop)
}

async fn a_guest_that_declares_four_gigabytes_is_ended_by_its_limit_and_lives_without_one(scene: &Scene) -> Result<()> {
    let registry = Crooked::start(scene.node())?;
    registry.honest("bad", &module(r#"(module (memory 65536) (func (export "_start")))"#)?);
    let app = json!({ "image": registry.image("bad"), "name": "app" });
    let spec = PodSpec::of("hello").main(app).set(json!({ "restartPolicy": "Never" }));
    let limited = spec.clone().main(json!({ "resources": { "limits": { "memory": "32Mi" } } }));
    for (name, spec, code, reason) in [("limited", limited, 137, "OOMKilled"), ("free", spec, 0, "Completed")] {
        scene.create::<Pod>(spec.pod(name)).await?;
        let pod = scene.over(name).await?;
        let end = container_state(&pod, "app").and_then(|status| status.state.clone()?.terminated);
        let end = end.context("not terminated")?;
        ensure!(end.exit_code == code && end.reason.as_deref() == Some(reason), "{name}: {end:?}");
    }
    Ok(())
}

async fn a_pod_that_the_node_has_no_room_for_is_not_run(scene: &Scene) -> Result<()> {
    let fields = json!({ "resources": { "requests": { "cpu": "1000" } } });
    // Past the scheduler, which would not have brought it here.
    let spec =
        PodSpec::of("hello").main(fields).set(json!({ "nodeName": scene.node().name(), "runtimeClassName": null }));
    scene.create::<Pod>(spec.pod("big")).await?;
    let pod = scene.over("big").await?;
    let status = pod.status.unwrap_or_default();
    ensure!(
        status.phase.as_deref() == Some("Failed") && status.reason.as_deref() == Some("OutOfcpu"),
        "{:?} {:?}",
        status.phase,
        status.reason
    );
    let message = status.message.unwrap_or_default();
    ensure!(message.contains("Node didn't have enough resource: cpu, requested: 1000000"), "{message}");
    Ok(())
}

async fn an_invalid_quantity_is_refused_by_the_api_server(scene: &Scene) -> Result<()> {
    let fields = json!({ "resources": { "limits": { "memory": "lots" } } });
    match scene.create::<Pod>(PodSpec::of("hello").main(fields).pod("bad")).await {
        Err(error) => ensure!(format!("{error:#}").contains("quantities must match"), "{error:#}"),
        Ok(_) => bail!("a pod with the memory limit \"lots\" was accepted"),
    }
    Ok(())
}

async fn a_pod_refused_again_and_again_stays_pending_and_is_not_failed(scene: &Scene) -> Result<()> {
    let registry = Crooked::start(scene.node())?;
    let deployment =
        PodSpec::of("hello").main(json!({ "image": registry.image("bad"), "name": "app" })).deployment("bad", 1);
    scene.create::<k8s_openapi::api::apps::v1::Deployment>(deployment).await?;
    let first = one_pod(scene).await?;
    let asked = registry.asked();
    until("the registry is asked again after a pause", PATIENCE, async || {
        Ok(Seen::when(registry.asked() > asked + 1, registry.asked()))
    })
    .await?;
    ensure!(one_pod(scene).await? == first, "the pod was replaced");
    // 10 s, 20 s, 40 s: in a minute a registry is not asked more than a few times.
    ensure!(registry.asked() - asked < 20, "asked {} times", registry.asked());
    Ok(())
}

/// UID of the Deployment's one pod, when it is refused.
async fn one_pod(scene: &Scene) -> Result<Option<String>> {
    until("one pod is refused", PATIENCE, async || {
        let pods = scene.pods("app=bad").await?;
        let [pod] = pods.as_slice() else { return Ok(Seen::NotYet(format!("{} pods", pods.len()))) };
        let waiting =
            container_state(pod, "app").and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
        Ok(Seen::some(
            waiting.is_some_and(|reason| PULL.contains(&reason)).then(|| pod.metadata.uid.clone()),
            describe(pod),
        ))
    })
    .await
}
