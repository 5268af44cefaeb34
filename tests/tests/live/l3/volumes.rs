//! Volumes, read by a guest.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, Secret};
use kube::api::{LogParams, Patch, PatchParams};
use samara_tests::manifest::{PodSpec, container, with};
use samara_tests::scene::{PATIENCE, Scene, container_state};
use samara_tests::wait::{Seen, until};
use serde_json::{Value, json};

use crate::trial::tests;

tests![
    containers_of_a_pod_share_an_empty_dir_and_it_outlives_a_restart,
    a_memory_empty_dir_is_a_tmpfs_of_its_size,
    config_map_and_secret_files_have_their_text_and_their_mode,
    config_map_and_secret_volumes_are_updated_while_the_guest_runs,
    the_downward_api_shows_labels_and_their_change,
    a_projected_token_is_for_its_audience_and_the_default_one_works,
    a_host_path_is_the_nodes_own_directory,
    a_read_only_mount_cannot_be_written,
    a_sub_path_shows_one_file_and_no_way_out,
    a_read_only_root_keeps_its_volumes_writable,
    a_volume_of_a_missing_secret_holds_the_pod_and_names_it,
];

/// A toolbox that stays, with these volumes at `/v/<name>`.
fn box_with(volumes: Value) -> PodSpec {
    let names = volumes.as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str());
    let mounts: Vec<_> = names.map(|name| json!({ "name": name, "mountPath": format!("/v/{name}") })).collect();
    PodSpec::of("toolbox").main(json!({ "volumeMounts": mounts })).set(json!({ "volumes": volumes }))
}

async fn cat(scene: &Scene, file: &str) -> Result<String> {
    scene.kubectl(&["exec", "box", "--", "cat", file]).await
}

async fn start(scene: &Scene, spec: &PodSpec) -> Result<Pod> {
    scene.create::<Pod>(spec.pod("box")).await?;
    scene.ready("box").await
}

async fn containers_of_a_pod_share_an_empty_dir_and_it_outlives_a_restart(scene: &Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
    let writer = with(container("writer", "read-write"), mounts.clone());
    let reader = with(container("reader", "toolbox"), mounts);
    scene
        .create::<Pod>(
            PodSpec::containers([reader, writer])
                .set(json!({ "volumes": [{ "name": "data", "emptyDir": {} }] }))
                .pod("pair"),
        )
        .await?;
    scene
        .pod_until("pair", "has restarted its writer and runs its reader", |pod| {
            let is = |name, what: fn(&ContainerStatus) -> bool| container_state(pod, name).is_some_and(what);
            is("writer", |status| status.restart_count == 1) && is("reader", |status| status.started == Some(true))
        })
        .await?;
    until("the second run has counted", PATIENCE, async || {
        let text = scene.kubectl(&["exec", "pair", "-c", "reader", "--", "cat", "/data/count"]).await?;
        Ok(Seen::when(text == "2\n", text))
    })
    .await
}

async fn a_memory_empty_dir_is_a_tmpfs_of_its_size(scene: &Scene) -> Result<()> {
    let volumes = json!([{ "name": "fast", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }]);
    let pod = start(scene, &box_with(volumes)).await?;
    let uid = pod.metadata.uid.context("no UID")?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let line =
        table.lines().find(|line| line.contains(&uid) && line.contains("/fast ")).context("no mount of the volume")?;
    ensure!(line.contains(" - tmpfs ") && line.contains("size=1024k"), "{line}");
    Ok(())
}

async fn config_map_and_secret_files_have_their_text_and_their_mode(scene: &Scene) -> Result<()> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "settings" }, "data": { "a": "text of a", "b": "text of b" }, "binaryData": { "raw": "AAEC" } })).await?;
    scene
        .create::<Secret>(json!({ "metadata": { "name": "keys" }, "stringData": { "password": "open sesame" } }))
        .await?;
    let volumes = json!([
        { "name": "all", "configMap": { "name": "settings" } },
        { "name": "some", "configMap": { "name": "settings", "items": [{ "key": "b", "path": "deep/er", "mode": 256 }] } },
        { "name": "keys", "secret": { "secretName": "keys", "defaultMode": 256 } },
        { "name": "maybe", "configMap": { "name": "no-such-map", "optional": true } },
    ]);
    let pod = start(scene, &box_with(volumes)).await?;
    ensure!(cat(scene, "/v/all/a").await? == "text of a");
    ensure!(cat(scene, "/v/some/deep/er").await? == "text of b");
    ensure!(cat(scene, "/v/keys/password").await? == "open sesame");
    let raw = scene.kubectl(&["exec", "box", "--", "wc", "/v/all/raw"]).await?;
    ensure!(raw.trim_start().starts_with('3'), "binary data has 3 bytes: {raw}");
    let listed = scene.kubectl(&["exec", "box", "--", "ls", "/v/some"]).await?;
    ensure!(listed.lines().all(|line| line.trim() != "a"), "more than its items: {listed}");
    ensure!(
        scene.kubectl(&["exec", "box", "--", "ls", "/v/maybe"]).await?.trim().is_empty(),
        "an optional map that is missing is empty"
    );

    let uid = pod.metadata.uid.context("no UID")?;
    // In memory, where a Secret stays.
    let dir = scene.node().run_dir().join("volumes").join(uid);
    let file = find(&dir, "password").context("the secret's file on the node")?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions()) & 0o777;
    ensure!(mode == 0o400, "{} has mode {mode:o}", file.display());
    Ok(())
}

/// A file by its name, through symbolic links.
fn find(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        match std::fs::metadata(&path) {
            Ok(about) if about.is_dir() => find(&path, name),
            Ok(_) if path.ends_with(name) => Some(path),
            Ok(_) | Err(_) => None,
        }
    })
}

async fn config_map_and_secret_volumes_are_updated_while_the_guest_runs(scene: &Scene) -> Result<()> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "settings" }, "data": { "key": "old" } })).await?;
    scene.create::<Secret>(json!({ "metadata": { "name": "keys" }, "stringData": { "key": "old" } })).await?;
    let volumes = json!([
        { "name": "map", "configMap": { "name": "settings" } },
        { "name": "keys", "secret": { "secretName": "keys" } },
    ]);
    start(scene, &box_with(volumes)).await?;
    for file in ["/v/map/key", "/v/keys/key"] {
        ensure!(cat(scene, file).await? == "old", "{file}");
    }
    let patch = Patch::Merge(json!({ "data": { "key": "new", "more": "too" } }));
    scene.api::<ConfigMap>().patch("settings", &PatchParams::default(), &patch).await?;
    let patch = Patch::Merge(json!({ "stringData": { "key": "new", "more": "too" } }));
    scene.api::<Secret>().patch("keys", &PatchParams::default(), &patch).await?;
    for dir in ["/v/map", "/v/keys"] {
        until(format!("the guest sees the new text in {dir}"), PATIENCE * 2, async || {
            let text = cat(scene, &format!("{dir}/key")).await?;
            Ok(Seen::when(text == "new", text))
        })
        .await?;
        ensure!(cat(scene, &format!("{dir}/more")).await? == "too", "a new key is a new file in {dir}");
    }
    let pod = scene.api::<Pod>().get("box").await?;
    ensure!(container_state(&pod, "toolbox").is_some_and(|status| status.restart_count == 0), "restarted");
    Ok(())
}

async fn the_downward_api_shows_labels_and_their_change(scene: &Scene) -> Result<()> {
    let items = json!([
        { "path": "name", "fieldRef": { "fieldPath": "metadata.name" } },
        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
        { "path": "memory", "resourceFieldRef": { "containerName": "toolbox", "resource": "limits.memory", "divisor": "1Mi" } },
    ]);
    let spec = box_with(json!([{ "name": "me", "downwardAPI": { "items": items } }]))
        .main(json!({ "resources": { "limits": { "memory": "64Mi" } } }))
        .labels(json!({ "colour": "blue" }));
    start(scene, &spec).await?;
    ensure!(cat(scene, "/v/me/name").await? == "box");
    ensure!(cat(scene, "/v/me/memory").await? == "64");
    ensure!(cat(scene, "/v/me/labels").await? == "colour=\"blue\"");
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "colour": "red" } } }));
    scene.api::<Pod>().patch("box", &PatchParams::default(), &patch).await?;
    until("the guest sees the new label", PATIENCE * 2, async || {
        let text = cat(scene, "/v/me/labels").await?;
        Ok(Seen::when(text == "colour=\"red\"", text))
    })
    .await
}

async fn a_projected_token_is_for_its_audience_and_the_default_one_works(scene: &Scene) -> Result<()> {
    let volumes = json!([{ "name": "token", "projected": { "sources": [
        { "serviceAccountToken": { "path": "token", "audience": "somebody-else", "expirationSeconds": 600 } },
    ] } }]);
    start(scene, &box_with(volumes)).await?;
    let review = async |token: &str, audience: &str| -> Result<Value> {
        let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token, "audiences": [audience] } });
        let answer = scene.cluster().kubectl().input(&["create", "-o", "json", "-f", "-"], &review.to_string()).await?;
        Ok(serde_json::from_str::<Value>(&answer)?["status"].clone())
    };
    let own = cat(scene, "/v/token/token").await?;
    let status = review(&own, "somebody-else").await?;
    ensure!(status["authenticated"] == true, "{status}");
    let names = status["user"]["extra"]["authentication.kubernetes.io/pod-name"].clone();
    ensure!(names == json!(["box"]), "the token is bound to {names}");
    let default = cat(scene, "/var/run/secrets/kubernetes.io/serviceaccount/token").await?;
    let status = review(&default, "https://kubernetes.default.svc.cluster.local").await?;
    ensure!(status["authenticated"] == true, "{status}");
    let namespace = cat(scene, "/var/run/secrets/kubernetes.io/serviceaccount/namespace").await?;
    ensure!(namespace == scene.namespace(), "{namespace}");
    ensure!(cat(scene, "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt").await?.contains("BEGIN CERTIFICATE"));
    Ok(())
}

async fn a_host_path_is_the_nodes_own_directory(scene: &Scene) -> Result<()> {
    let dir = scene.cluster().site().data_dir().join(format!("host-{}", scene.namespace()));
    let volumes = json!([{ "name": "host", "hostPath": { "path": dir, "type": "DirectoryOrCreate" } }]);
    let spec = box_with(volumes).set(json!({ "securityContext": { "runAsUser": 0 } }));
    start(scene, &spec).await?;
    std::fs::write(dir.join("from-host"), "hello guest")?;
    ensure!(cat(scene, "/v/host/from-host").await? == "hello guest");
    scene.kubectl(&["exec", "box", "--", "mkdir", "/v/host/from-guest"]).await?;
    ensure!(dir.join("from-guest").is_dir());
    Ok(())
}

async fn a_read_only_mount_cannot_be_written(scene: &Scene) -> Result<()> {
    let spec = box_with(json!([{ "name": "data", "emptyDir": {} }]))
        .main(json!({ "volumeMounts": [{ "name": "data", "mountPath": "/v/data", "readOnly": true }] }));
    start(scene, &spec).await?;
    let tried = scene.kubectl(&["exec", "box", "--", "mkdir", "/v/data/dir"]).await;
    ensure!(tried.is_err(), "a directory was made on a read-only mount");
    Ok(())
}

async fn a_sub_path_shows_one_file_and_no_way_out(scene: &Scene) -> Result<()> {
    scene
        .create::<ConfigMap>(
            json!({ "metadata": { "name": "settings" }, "data": { "a": "text of a", "b": "text of b" } }),
        )
        .await?;
    let mounts = json!([
        { "name": "map", "mountPath": "/etc/only-a", "subPath": "a" },
        { "name": "data", "mountPath": "/work", "subPathExpr": "of-$(NAME)" },
    ]);
    let spec = PodSpec::of("toolbox")
        .main(json!({ "volumeMounts": mounts, "env": [{ "name": "NAME", "value": "me" }] }))
        .set(json!({ "volumes": [{ "name": "map", "configMap": { "name": "settings" } }, { "name": "data", "emptyDir": {} }] }));
    let pod = start(scene, &spec).await?;
    ensure!(cat(scene, "/etc/only-a").await? == "text of a");
    scene.kubectl(&["exec", "box", "--", "mkdir", "/work/made"]).await?;
    let uid = pod.metadata.uid.context("no UID")?;
    let volumes = scene.node().root_dir().join("pods").join(uid).join("volumes");
    ensure!(finds_dir(&volumes, "of-me/made"), "the directory is not beneath its sub-path in {}", volumes.display());
    Ok(())
}

fn finds_dir(dir: &std::path::Path, tail: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.is_dir() && !path.is_symlink() && (path.ends_with(tail) || finds_dir(&path, tail))
    })
}

async fn a_read_only_root_keeps_its_volumes_writable(scene: &Scene) -> Result<()> {
    let spec = box_with(json!([{ "name": "data", "emptyDir": {} }]))
        .main(json!({ "securityContext": { "readOnlyRootFilesystem": true } }));
    start(scene, &spec).await?;
    scene.kubectl(&["exec", "box", "--", "mkdir", "/v/data/dir"]).await.context("a volume stays writable")?;
    ensure!(scene.kubectl(&["exec", "box", "--", "mkdir", "/dir"]).await.is_err(), "the root was written");
    Ok(())
}

async fn a_volume_of_a_missing_secret_holds_the_pod_and_names_it(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(box_with(json!([{ "name": "keys", "secret": { "secretName": "late" } }])).pod("box")).await?;
    let message = scene.event("box", "FailedMount").await?;
    ensure!(message.contains("secret \"late\" not found"), "{message}");
    scene.create::<Secret>(json!({ "metadata": { "name": "late" }, "stringData": { "key": "came" } })).await?;
    scene.ready("box").await?;
    ensure!(cat(scene, "/v/keys/key").await? == "came");
    ensure!(scene.log("box", &LogParams::default()).await?.is_empty());
    Ok(())
}
