//! Environment: values, references, expansion, and what happens when something is missing.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::LogParams;
use samara_tests::manifest::{PodSpec, container, with};
use samara_tests::scene::{Scene, container_state, pod_ip};
use serde_json::{Value, json};

use crate::trial::tests;

tests![
    a_guests_environment_is_the_kubelets_word_for_word,
    resource_fields_are_in_the_environment,
    env_from_takes_whole_maps_with_a_prefix_and_leaves_out_what_is_optional,
    a_missing_config_map_is_named_and_the_pod_starts_when_it_is_there,
    a_missing_key_is_named,
    arguments_and_working_directory_are_the_pods,
    relative_paths_begin_in_the_working_directory,
];

fn dump(fields: Value) -> PodSpec {
    PodSpec::of("env-dump").set(json!({ "restartPolicy": "Never" })).main(fields)
}

async fn output(scene: &Scene, spec: &PodSpec) -> Result<(Pod, String)> {
    scene.create::<Pod>(spec.pod("dump")).await?;
    let pod = scene.over("dump").await?;
    Ok((pod, scene.log("dump", &LogParams::default()).await?))
}

fn has(text: &str, line: &str) -> Result<()> {
    ensure!(text.lines().any(|found| found == line), "no line {line:?} in:\n{text}");
    Ok(())
}

async fn a_guests_environment_is_the_kubelets_word_for_word(scene: &Scene) -> Result<()> {
    let config = json!({ "metadata": { "name": "settings" }, "data": { "greeting": "hello" } });
    scene.create::<ConfigMap>(config).await?;
    let secret = json!({ "metadata": { "name": "settings" }, "stringData": { "password": "open sesame" } });
    scene.create::<Secret>(secret).await?;
    let service = json!({ "metadata": { "name": "my-db" }, "spec": { "ports": [{ "name": "sql", "port": 5432 }] } });
    let service = scene.create::<Service>(service).await?;
    let spec = dump(json!({ "env": [
        { "name": "GREETING", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "greeting" } } },
        { "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "settings", "key": "password" } } },
        { "name": "ABSENT", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "no-such-key", "optional": true } } },
        { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "UID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.uid" } } },
        { "name": "SPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
        { "name": "COLOUR", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['colour']" } } },
        { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
        { "name": "ACCOUNT", "valueFrom": { "fieldRef": { "fieldPath": "spec.serviceAccountName" } } },
        { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        { "name": "HOST_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.hostIP" } } },
        { "name": "MESSAGE", "value": "$(GREETING) from $(POD), not $$(GREETING) and not $(NOTHING)" },
    ] }))
    .labels(json!({ "colour": "blue" }));
    let (pod, text) = output(scene, &spec).await?;
    let uid = pod.metadata.uid.clone().context("no UID")?;
    let ip = pod_ip(&pod).context("no address")?;
    let cluster_ip = service.spec.and_then(|spec| spec.cluster_ip).context("no cluster IP")?;
    for line in [
        "GREETING=hello".into(),
        "PASSWORD=open sesame".into(),
        "POD=dump".into(),
        format!("UID={uid}"),
        format!("SPACE={}", scene.namespace()),
        "COLOUR=blue".into(),
        format!("NODE={}", scene.node().name()),
        "ACCOUNT=default".into(),
        format!("IP={ip}"),
        format!("HOST_IP={}", scene.node().ip()),
        "MESSAGE=hello from dump, not $(GREETING) and not $(NOTHING)".into(),
        "HOSTNAME=dump".into(),
        "KUBERNETES_SERVICE_HOST=10.96.0.1".into(),
        "KUBERNETES_SERVICE_PORT=443".into(),
        "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443".into(),
        format!("MY_DB_SERVICE_HOST={cluster_ip}"),
        "MY_DB_SERVICE_PORT=5432".into(),
        "MY_DB_SERVICE_PORT_SQL=5432".into(),
        format!("MY_DB_PORT_5432_TCP_ADDR={cluster_ip}"),
    ] {
        has(&text, &line)?;
    }
    ensure!(!text.contains("ABSENT="), "an optional key that is missing sets nothing:\n{text}");
    for foreign in ["SAMARA_", "RUST_LOG", "PATH=/root"] {
        ensure!(!text.contains(foreign), "the agent's own environment leaks ({foreign}):\n{text}");
    }
    Ok(())
}

async fn resource_fields_are_in_the_environment(scene: &Scene) -> Result<()> {
    let field = |name: &str, resource: &str, divisor: &str| json!({ "name": name, "valueFrom": { "resourceFieldRef": { "resource": resource, "divisor": divisor } } });
    let spec = dump(json!({
        "resources": { "requests": { "cpu": "250m", "memory": "32Mi" }, "limits": { "cpu": "1500m", "memory": "64Mi" } },
        "env": [
            field("CPU_LIMIT", "limits.cpu", "1m"),
            field("CPUS", "limits.cpu", "1"),
            field("MEMORY_LIMIT", "limits.memory", "1Mi"),
            field("CPU_REQUEST", "requests.cpu", "1m"),
            field("MEMORY_REQUEST", "requests.memory", "1"),
        ],
    }));
    let (_, text) = output(scene, &spec).await?;
    // A share of a CPU is rounded up, as the kubelet does.
    for line in ["CPU_LIMIT=1500", "CPUS=2", "MEMORY_LIMIT=64", "CPU_REQUEST=250", "MEMORY_REQUEST=33554432"] {
        has(&text, line)?;
    }
    Ok(())
}

async fn env_from_takes_whole_maps_with_a_prefix_and_leaves_out_what_is_optional(scene: &Scene) -> Result<()> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "many" }, "data": { "ONE": "1", "TWO": "2" } })).await?;
    scene.create::<Secret>(json!({ "metadata": { "name": "keys" }, "stringData": { "KEY": "open sesame" } })).await?;
    let spec = dump(json!({
        "envFrom": [
            { "prefix": "A_", "configMapRef": { "name": "many" } },
            { "prefix": "S_", "secretRef": { "name": "keys" } },
            { "secretRef": { "name": "no-such-secret", "optional": true } },
        ],
        "env": [{ "name": "A_TWO", "value": "own" }],
    }));
    let (_, text) = output(scene, &spec).await?;
    has(&text, "A_ONE=1")?;
    has(&text, "S_KEY=open sesame")?;
    has(&text, "A_TWO=own")
}

async fn a_missing_config_map_is_named_and_the_pod_starts_when_it_is_there(scene: &Scene) -> Result<()> {
    let spec = dump(json!({ "env": [
        { "name": "LATE", "valueFrom": { "configMapKeyRef": { "name": "late", "key": "key" } } },
    ] }));
    scene.create::<Pod>(spec.pod("dump")).await?;
    waits_with(scene, "CreateContainerConfigError", "configmap \"late\" not found").await?;
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "late" }, "data": { "key": "came" } })).await?;
    scene.over("dump").await?;
    has(&scene.log("dump", &LogParams::default()).await?, "LATE=came")
}

async fn a_missing_key_is_named(scene: &Scene) -> Result<()> {
    scene.create::<Secret>(json!({ "metadata": { "name": "box" }, "stringData": { "there": "1" } })).await?;
    let spec = dump(json!({ "env": [
        { "name": "X", "valueFrom": { "secretKeyRef": { "name": "box", "key": "missing" } } },
    ] }));
    scene.create::<Pod>(spec.pod("dump")).await?;
    waits_with(scene, "CreateContainerConfigError", "couldn't find key missing in Secret").await
}

async fn waits_with(scene: &Scene, reason: &str, words: &str) -> Result<()> {
    let pod = scene
        .pod_until("dump", &format!("waits with {reason}"), |pod| {
            let waiting = container_state(pod, "env-dump").and_then(|status| status.state.as_ref()?.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
        })
        .await?;
    let waiting =
        container_state(&pod, "env-dump").and_then(|status| status.state.clone()?.waiting).unwrap_or_default();
    let message = waiting.message.unwrap_or_default();
    ensure!(message.contains(words), "{reason} says {message:?}, not {words:?}");
    Ok(())
}

async fn arguments_and_working_directory_are_the_pods(scene: &Scene) -> Result<()> {
    let spec = dump(json!({
        "env": [{ "name": "NAME", "value": "value" }],
        "args": ["plain", "$(NAME)", "$$(NAME)", ""],
        "workingDir": "/data",
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    }))
    .set(json!({ "volumes": [{ "name": "data", "emptyDir": {} }] }));
    let (_, text) = output(scene, &spec).await?;
    for line in ["argument 1: plain", "argument 2: value", "argument 3: $(NAME)", "argument 4: ", "PWD=/data"] {
        has(&text, line)?;
    }
    Ok(())
}

async fn relative_paths_begin_in_the_working_directory(scene: &Scene) -> Result<()> {
    let config = json!({ "metadata": { "name": "texts" }, "data": { "greeting": "relative" } });
    scene.create::<ConfigMap>(config).await?;
    let tool = |name: &str, command: &[&str], fields: Value| {
        with(with(container(name, "toolbox"), json!({ "command": command, "workingDir": "/work" })), fields)
    };
    let work = json!({ "volumeMounts": [{ "name": "work", "mountPath": "/work" }] });
    let read_only = json!({ "securityContext": { "readOnlyRootFilesystem": true } });
    let spec = PodSpec::containers([
        tool("reader", &["/bin/cat", "greeting", "/work/greeting", "../work/./greeting"], work),
        tool("writer", &["/bin/mkdir", "/made"], read_only),
        tool("lister", &["/bin/pwd"], json!({})),
    ])
    .set(json!({ "restartPolicy": "Never", "volumes": [{ "name": "work", "configMap": { "name": "texts" } }] }));
    scene.create::<Pod>(spec.pod("tools")).await?;
    scene.over("tools").await?;
    let said = async |name: &str| {
        scene.log("tools", &LogParams { container: Some(name.to_owned()), ..LogParams::default() }).await
    };
    let (read, made, pwd) = (said("reader").await?, said("writer").await?, said("lister").await?);
    ensure!(read == "relativerelativerelative", "{read:?}");
    ensure!(made.contains("Read-only file system"), "{made:?}");
    ensure!(pwd == "/work\n", "{pwd:?}");
    Ok(())
}
