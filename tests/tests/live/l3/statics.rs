//! Static pods: manifests on a node's own disk, and their mirrors.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use samara_tests::node::{For, Node, Options};
use samara_tests::samples::image;
use samara_tests::scene::{PATIENCE, Scene, container_state};
use samara_tests::wait::{Seen, until};
use serde_json::{Value, json};

use crate::trial::tests;

tests![
    a_manifest_is_a_pod_whose_mirror_comes_back_and_outlives_the_agent,
    a_changed_manifest_is_another_pod_and_a_removed_one_is_none,
    a_manifest_that_is_back_while_its_pod_ends_is_run_again,
    a_manifest_that_cannot_be_run_is_named_in_the_log_and_harms_no_other,
];

/// A node of this test alone, with a directory of manifests.
struct Place {
    node: Node,
    dir: PathBuf,
}

impl Place {
    async fn make(scene: &Scene, name: &str) -> Result<Self> {
        let dir = scene.cluster().site().data_dir().join(format!("{name}-manifests"));
        fs::create_dir_all(&dir)?;
        let config = json!({ "staticPodPath": dir, "fileCheckFrequency": "1s" });
        let node = Node::start(scene.cluster(), &Options { whom: For::OneTest, config, ..Options::new(name) }).await?;
        node.ready(scene.cluster()).await?;
        Ok(Self { node, dir })
    }

    /// By rename, as careful editors do.
    fn write(&self, file: &str, manifest: &Value) -> Result<()> {
        let temporary = self.dir.join(format!(".{file}"));
        fs::write(&temporary, serde_yaml_ng::to_string(manifest)?)?;
        fs::rename(temporary, self.dir.join(file)).context("write the manifest")
    }
}

fn web(scene: &Scene, tag: &str) -> Value {
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": scene.namespace(), "labels": { "app": "web" } },
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "http-hello", "image": image(&format!("http-hello:{tag}")),
                "ports": [{ "containerPort": 8080 }], "readinessProbe": probe,
            }],
        },
    })
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.annotations().get(&format!("kubernetes.io/config.{name}")).map(String::as_str)
}

fn container_id(pod: &Pod) -> Option<String> {
    container_state(pod, "http-hello")?.container_id.clone()
}

async fn a_manifest_is_a_pod_whose_mirror_comes_back_and_outlives_the_agent(scene: &Scene) -> Result<()> {
    let place = Place::make(scene, "static").await?;
    place.write("web.yaml", &web(scene, "v1"))?;
    let name = "web-static";
    let first = scene.ready(name).await?;
    let hash = annotation(&first, "hash").context("no hash")?;
    ensure!(annotation(&first, "mirror") == Some(hash) && annotation(&first, "source") == Some("file"), "{first:?}");
    let owner = first.owner_references().first().context("no owner")?;
    ensure!(owner.kind == "Node" && owner.name == "static", "{owner:?}");
    ensure!(first.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some("static"), "not on its node");
    let id = container_id(&first).context("no container id")?;

    let pods = scene.api::<Pod>();
    pods.delete(name, &DeleteParams::default()).await?;
    let again = scene
        .pod_until(name, "is another object and Ready", |pod| {
            pod.uid() != first.uid() && pod.metadata.deletion_timestamp.is_none() && is_ready(pod)
        })
        .await?;
    ensure!(container_id(&again) == Some(id.clone()), "the container was disturbed by its mirror's deletion");
    ensure!(annotation(&again, "hash") == Some(hash));
    let restarts = container_state(&again, "http-hello").map(|status| status.restart_count);
    ensure!(restarts == Some(0), "{restarts:?} restarts");

    place.node.kill_agent()?;
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    place.node.start_agent(scene.cluster())?;
    let after = scene
        .pod_until(name, "is made anew by the next agent", |pod| pod.uid() != again.uid() && is_ready(pod))
        .await?;
    ensure!(container_id(&after) == Some(id), "the next agent did not adopt the pod");
    let told = scene.kubectl(&["describe", "pod", name]).await?;
    ensure!(told.contains("Started"), "its events are not found by their mirror: {told}");
    Ok(())
}

async fn a_changed_manifest_is_another_pod_and_a_removed_one_is_none(scene: &Scene) -> Result<()> {
    let place = Place::make(scene, "edited").await?;
    place.write("web.yaml", &web(scene, "v1"))?;
    let name = "web-edited";
    let first = scene.ready(name).await?;
    place.write("web.yaml", &web(scene, "v2"))?;
    let second = scene
        .pod_until(name, "has another hash and is Ready", |pod| {
            annotation(pod, "hash") != annotation(&first, "hash") && is_ready(pod)
        })
        .await?;
    ensure!(container_id(&second) != container_id(&first), "the same container runs another manifest");
    let image = second.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
    ensure!(image.ends_with(":v2"), "{image}");

    fs::remove_file(place.dir.join("web.yaml"))?;
    let pods = scene.api::<Pod>();
    until("the mirror is gone", PATIENCE, async || {
        let left = pods.get_opt(name).await?;
        Ok(Seen::when(left.is_none(), left.map(|pod| samara_tests::scene::describe(&pod)).unwrap_or_default()))
    })
    .await?;
    until("nothing of the pod is left on the node", PATIENCE, async || {
        let bundles = fs::read_dir(place.node.run_dir().join("bundles")).map_or(0, Iterator::count);
        Ok(Seen::when(bundles == 0, format!("{bundles} pods have bundles")))
    })
    .await
}

async fn a_manifest_that_is_back_while_its_pod_ends_is_run_again(scene: &Scene) -> Result<()> {
    let place = Place::make(scene, "undone").await?;
    let mut manifest = web(scene, "v1");
    manifest["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 3 } } });
    place.write("web.yaml", &manifest)?;
    let name = "web-undone";
    let first = scene.ready(name).await?;
    fs::remove_file(place.dir.join("web.yaml"))?;
    until("the pod is ending", PATIENCE, async || {
        let log = fs::read_to_string(place.node.agent_log())?;
        Ok(Seen::when(log.contains("ending container"), "not yet"))
    })
    .await?;
    place.write("web.yaml", &manifest)?;
    let again = scene
        .pod_until(name, "has another container and is Ready", |pod| {
            container_id(pod) != container_id(&first) && is_ready(pod)
        })
        .await?;
    ensure!(annotation(&again, "hash") == annotation(&first, "hash"), "another manifest");
    ensure!(again.metadata.deletion_timestamp.is_none(), "its mirror is going");
    Ok(())
}

async fn a_manifest_that_cannot_be_run_is_named_in_the_log_and_harms_no_other(scene: &Scene) -> Result<()> {
    let place = Place::make(scene, "complaining").await?;
    let mut with_secret = web(scene, "v1");
    with_secret["metadata"]["name"] = "secretive".into();
    with_secret["spec"]["volumes"] = json!([{ "name": "s", "secret": { "secretName": "s" } }]);
    place.write("a-secret.yaml", &with_secret)?;
    fs::write(place.dir.join("b-broken.yaml"), "kind: Pod\nmetadata: [")?;
    fs::write(place.dir.join("c-empty.yaml"), "")?;
    place.write("d-escape.yaml", &json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "../../x" } }))?;
    place.write("e-map.yaml", &json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" } }))?;
    place.write("web.yaml", &web(scene, "v1"))?;
    scene.ready("web-complaining").await?;
    until("every manifest is complained of", PATIENCE, async || {
        let log = fs::read_to_string(place.node.agent_log())?;
        let wanted = [
            "a-secret.yaml: static pods may not reference secrets",
            "b-broken.yaml: document 1:",
            "c-empty.yaml: there is no object in it",
            "d-escape.yaml: invalid pod: metadata.name: Invalid value",
            "e-map.yaml: a ConfigMap is not for a node",
        ];
        let missing = wanted.into_iter().find(|text| !log.contains(text));
        Ok(Seen::when(missing.is_none(), missing.unwrap_or_default()))
    })
    .await?;
    let others: Vec<_> = scene.pods("app=web").await?.iter().map(ResourceExt::name_any).collect();
    ensure!(others == ["web-complaining"], "{others:?}");
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
