//! How a node joins, and what its configuration file may say.

use std::process::Output;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerImage, Event, Node as ApiNode, Pod};
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use reqwest::{Certificate, Client, StatusCode};
use samara_images::Artifact;
use samara_tests::cluster::UNAPPROVED;
use samara_tests::manifest::PodSpec;
use samara_tests::node::{For, Join, Node, Options, condition, samara};
use samara_tests::samples;
use samara_tests::scene::{PATIENCE, Scene};
use samara_tests::wait::{Seen, until};
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::trial::tests;

tests![
    a_bootstrap_token_becomes_a_client_and_a_serving_certificate,
    a_node_shows_its_own_certificate_until_somebody_runs_the_line_that_its_log_names,
    the_lease_is_renewed,
    labels_capacity_and_taints_follow_the_configuration,
    a_wrong_value_in_the_configuration_stops_the_start_and_is_named,
    an_unknown_field_in_the_configuration_is_warned_of_by_its_path,
    the_node_names_its_runtime_handler_and_only_features_that_work,
    a_node_without_pod_cidr_says_so_until_it_has_one_and_its_events_tell_the_story,
    an_image_that_was_pulled_is_in_the_nodes_status,
];

async fn a_bootstrap_token_becomes_a_client_and_a_serving_certificate(scene: &Scene) -> Result<()> {
    let node = Node::start(
        scene.cluster(),
        &Options { join: Join::Bootstrap, whom: For::OneTest, ..Options::new("bootstrapped") },
    )
    .await?;
    node.ready(scene.cluster()).await?;
    let requests = Api::<CertificateSigningRequest>::all(scene.cluster().client().clone());
    let signed = |signer: &'static str| {
        let requests = requests.clone();
        async move {
            let all = requests.list(&Default::default()).await?.items;
            let own = all
                .into_iter()
                .filter(|request| request.spec.signer_name == signer && names_node(request, "bootstrapped"));
            anyhow::Ok(
                own.filter(|request| request.status.as_ref().is_some_and(|status| status.certificate.is_some()))
                    .count(),
            )
        }
    };
    for signer in ["kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"] {
        until(format!("a certificate of {signer}"), PATIENCE, async || {
            Ok(Seen::when(signed(signer).await? > 0, "none"))
        })
        .await?;
    }
    // The API server believes only certificates of the cluster's authority: logs are the proof that it is in use.
    scene
        .create::<Pod>(PodSpec::of("hello").on(node.name()).set(json!({ "restartPolicy": "Never" })).pod("hello"))
        .await?;
    scene.over("hello").await?;
    scene.log_with("hello", "hello from samara").await?;
    Ok(())
}

/// The first request of a node comes from its token; the node's name is in the certificate asked for.
fn names_node(request: &CertificateSigningRequest, name: &str) -> bool {
    let by_name = request.spec.username.as_deref() == Some(&format!("system:node:{name}"));
    by_name || request.spec.username.as_deref().is_some_and(|user| user.starts_with("system:bootstrap:"))
}

async fn a_node_shows_its_own_certificate_until_somebody_runs_the_line_that_its_log_names(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let node = Node::start(cluster, &Options { whom: For::OneTest, ..Options::new(UNAPPROVED) }).await?;
    // A node whose certificate nobody has signed is Ready all the same.
    node.ready(cluster).await?;
    let agent = node.agent().context("no agent")?;
    let line = until("the log names a line to run", PATIENCE, async || {
        let log = std::fs::read_to_string(node.agent_log())?;
        let line = log.lines().find_map(|line| line.split_once("kubectl certificate approve "));
        let name = line.and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(Seen::some(name.map(|name| format!("certificate approve {name}")), "none"))
    })
    .await?;
    let own = node.shown_certificate().await?;
    let (_, parsed) = X509Certificate::from_der(&own).context("the certificate that is shown")?;
    ensure!(parsed.issuer() == parsed.subject(), "signed by {}", parsed.issuer());
    let url = format!("https://{}:10250/healthz", node.ip());
    let trusting = Certificate::from_pem(cluster.pki().ca().as_bytes())?;
    let strict = || Client::builder().tls_certs_only([trusting.clone()]).build();
    ensure!(strict()?.get(&url).send().await.is_err(), "the cluster's authority has signed it already");

    cluster.kubectl().run(&line.split_whitespace().collect::<Vec<_>>()).await?;
    until("another certificate is shown", PATIENCE, async || {
        Ok(Seen::when(node.shown_certificate().await? != own, "its own"))
    })
    .await?;
    // Only the cluster's authority is trusted: an answer at all is the proof.
    ensure!(strict()?.get(&url).send().await?.status() == StatusCode::UNAUTHORIZED);
    ensure!(node.agent() == Some(agent), "the agent was started anew");
    node.check()
}

async fn the_lease_is_renewed(scene: &Scene) -> Result<()> {
    let leases = Api::<Lease>::namespaced(scene.cluster().client().clone(), "kube-node-lease");
    let renewed = async || -> Result<_> {
        let lease = leases.get_opt(scene.node().name()).await?.context("no lease")?;
        Ok(lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0))
    };
    let first = renewed().await?.context("never renewed")?;
    until("the lease is renewed", PATIENCE, async || {
        let now = renewed().await?;
        Ok(Seen::when(now.is_some_and(|now| now > first), format!("{now:?}")))
    })
    .await
}

async fn labels_capacity_and_taints_follow_the_configuration(scene: &Scene) -> Result<()> {
    let config =
        json!({ "maxPods": 7, "systemReserved": { "memory": "256Mi" }, "providerID": "cloud://zone-1/machine-7" });
    let node =
        Node::start(scene.cluster(), &Options { config, whom: For::OneTest, ..Options::new("configured") }).await?;
    let object = node.ready(scene.cluster()).await?;
    let status = object.status.clone().unwrap_or_default();
    let pods = status.capacity.as_ref().and_then(|list| list.get("pods")).map(|quantity| quantity.0.clone());
    ensure!(pods.as_deref() == Some("7"), "capacity for {pods:?} pods");
    let bytes =
        |list: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
            let text = list.and_then(|list| list.get("memory")).map(|quantity| quantity.0.clone()).unwrap_or_default();
            text.trim_end_matches("Ki").parse::<i64>().unwrap_or(0)
        };
    let kept = bytes(status.capacity.as_ref()) - bytes(status.allocatable.as_ref());
    // 256 Mi reserved, and 100 Mi that eviction keeps free.
    ensure!(kept == 356 * 1024, "{kept} KiB are kept back");
    let spec = object.spec.unwrap_or_default();
    let taints = spec.taints.unwrap_or_default();
    ensure!(taints.iter().any(|taint| taint.key == "samara.dev/reserved"), "{taints:?}");
    ensure!(spec.provider_id.as_deref() == Some("cloud://zone-1/machine-7"), "{:?}", spec.provider_id);
    Ok(())
}

/// Runs `samara node` with this configuration file until it ends or has said what it says.
async fn started_with(scene: &Scene, name: &str, config: &str) -> Result<Output> {
    let dir = scene.cluster().site().data_dir().join(name);
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("kubelet.yaml");
    std::fs::write(&file, config)?;
    let mut command = tokio::process::Command::new(samara());
    command.arg("node").arg("--config").arg(&file).args(["--node-name", name]);
    command.arg("--kubeconfig").arg(scene.cluster().kubectl().kubeconfig());
    command.arg("--root-dir").arg(dir.join("root")).arg("--run-dir").arg(dir.join("run"));
    command.kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output())
        .await
        .context("it started, and it should not have")?
        .context("start samara")
}

async fn a_wrong_value_in_the_configuration_stops_the_start_and_is_named(scene: &Scene) -> Result<()> {
    for (line, field) in [
        ("maxPods: -1", "maxPods"),
        ("maxPods: many", "maxPods"),
        ("containerLogMaxSize: much", "containerLogMaxSize"),
        ("nodeStatusUpdateFrequency: soon", "nodeStatusUpdateFrequency"),
        ("evictionHard: {memory.available: 200%}", "memory.available"),
    ] {
        let text = format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{line}\n");
        let output = started_with(scene, "misconfigured", &text).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{line}: accepted");
        ensure!(said.contains("kubelet.yaml") && said.contains(field), "{line}: {said}");
    }
    let output = started_with(scene, "misconfigured", "kind: SomethingElse\n").await?;
    ensure!(!output.status.success(), "a file of another kind is accepted");
    Ok(())
}

async fn an_unknown_field_in_the_configuration_is_warned_of_by_its_path(scene: &Scene) -> Result<()> {
    let config = json!({ "noSuchField": 1, "authentication": { "noSuchToo": true, "x509": { "clientCAFile": scene.cluster().pki().path("ca.crt") } } });
    let node = Node::start(scene.cluster(), &Options { config, whom: For::OneTest, ..Options::new("warned") }).await?;
    node.ready(scene.cluster()).await?;
    let log = std::fs::read_to_string(node.agent_log())?;
    for path in ["noSuchField", "authentication.noSuchToo"] {
        ensure!(log.lines().any(|line| line.contains("WARN") && line.contains(path)), "no warning of {path}");
    }
    Ok(())
}

async fn the_node_names_its_runtime_handler_and_only_features_that_work(scene: &Scene) -> Result<()> {
    let node = Api::<ApiNode>::all(scene.cluster().client().clone()).get(scene.node().name()).await?;
    ensure!(node.name_any() == scene.node().name());
    let status = node.status.unwrap_or_default();
    let handlers: Vec<_> =
        status.runtime_handlers.unwrap_or_default().into_iter().filter_map(|handler| handler.name).collect();
    ensure!(handlers.iter().any(|name| name == "samara"), "{handlers:?}");
    let features = status.declared_features.unwrap_or_default();
    // Sorted, which a list of one is; whether it works, exec and attach by kubectl show.
    ensure!(features == ["ExtendWebSocketsToKubelet"], "{features:?}");
    let info = status.node_info.context("no nodeInfo")?;
    ensure!(info.operating_system == "linux" && info.container_runtime_version.contains("://"), "{info:?}");
    ensure!(info.kernel_version == nix::sys::utsname::uname()?.release().to_string_lossy(), "{info:?}");
    Ok(())
}

/// kube-controller-manager gives every node its range, but only once there is a Node: what the agent says of itself at
/// registration is what it says without one.
async fn a_node_without_pod_cidr_says_so_until_it_has_one_and_its_events_tell_the_story(scene: &Scene) -> Result<()> {
    let name = "ranged";
    let nodes = Api::<ApiNode>::all(scene.cluster().client().clone());
    let only_it = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut seen = std::pin::pin!(watcher(nodes, only_it).applied_objects());
    let story = async {
        let mut first = None;
        while let Some(node) = seen.next().await {
            let node = node?;
            let (status, message) = condition(&node, "Ready").context("no condition Ready")?;
            let cidr = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
            first.get_or_insert((status.to_owned(), message.to_owned(), cidr.clone()));
            if status == "True" {
                return Ok((first.context("nothing before it")?, cidr));
            }
        }
        bail!("the watch ended")
    };
    let started = async { Node::start(scene.cluster(), &Options { whom: For::OneTest, ..Options::new(name) }).await };
    let (node, story) = tokio::join!(started, tokio::time::timeout(PATIENCE, story));
    let _node = node?;
    let ((status, message, none), cidr) = story.context("it does not become Ready")??;
    ensure!(none.is_none() && cidr.is_some(), "the range was {none:?}, then {cidr:?}");
    ensure!(status == "False" && message.contains("spec.podCIDR"), "at first Ready={status}: {message}");

    let events = Api::<Event>::namespaced(scene.cluster().client().clone(), "default");
    let of_it = ListParams::default().fields(&format!("involvedObject.kind=Node,involvedObject.name={name}"));
    let mut wanted = vec![
        ("Starting", "Starting kubelet.".to_owned()),
        ("NodeReady", format!("Node {name} status is now: NodeReady")),
        ("NodeHasSufficientMemory", format!("Node {name} status is now: NodeHasSufficientMemory")),
    ];
    until("the node's events tell of it", PATIENCE, async || {
        let events = events.list(&of_it).await?.items;
        wanted.retain(|(reason, message)| {
            let is = |event: &Event| {
                event.reason.as_deref() == Some(*reason) && event.message.as_deref() == Some(message.as_str())
            };
            !events.iter().any(is)
        });
        Ok(Seen::when(wanted.is_empty(), format!("none of {wanted:?}")))
    })
    .await
}

async fn an_image_that_was_pulled_is_in_the_nodes_status(scene: &Scene) -> Result<()> {
    // An image that nobody else pulls, so that it comes while this test looks; large, since fifty are told of.
    let image = format!("localhost:5000/samara/{}:v1", scene.namespace().trim_end_matches('-'));
    let mut bytes = std::fs::read(samples::artifact("wasm32-wasip1/release/toolbox.wasm"))?;
    // A custom section of its own: another digest.
    bytes.extend_from_slice(b"\0\x04\x03own");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, bytes)?;
    samples::push(&samples::pusher(), &image, Artifact::wasm(file.path())?).await?;
    let app = json!({ "image": image, "name": "app", "args": ["true"] });
    scene.create::<Pod>(PodSpec::of("toolbox").main(app).set(json!({ "restartPolicy": "Never" })).pod("box")).await?;
    scene.over("box").await?;
    let nodes = Api::<ApiNode>::all(scene.cluster().client().clone());
    until("the image is in the status", PATIENCE, async || {
        let images = nodes.get(scene.node().name()).await?.status.and_then(|status| status.images).unwrap_or_default();
        let names = |one: &ContainerImage| one.names.iter().flatten().any(|name| *name == image);
        let found = images.iter().find(|one| names(one)).map(|one| one.size_bytes);
        Ok(Seen::when(found.is_some_and(|size| size > Some(0)), format!("{} images, {found:?}", images.len())))
    })
    .await
}
