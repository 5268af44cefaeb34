//! How a node joins, and what its configuration file may say.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as ApiNode, Pod};
use kube::{Api, ResourceExt as _};
use samara_tests::manifest::PodSpec;
use samara_tests::node::{For, Join, Node, Options, samara};
use samara_tests::scene::{PATIENCE, Scene};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![
    a_bootstrap_token_becomes_a_client_and_a_serving_certificate,
    the_lease_is_renewed,
    labels_capacity_and_taints_follow_the_configuration,
    a_wrong_value_in_the_configuration_stops_the_start_and_is_named,
    an_unknown_field_in_the_configuration_is_warned_of_by_its_path,
    the_node_names_its_runtime_handler_and_only_features_that_work,
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
    let config = json!({ "maxPods": 7, "systemReserved": { "memory": "256Mi" } });
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
    let taints = object.spec.and_then(|spec| spec.taints).unwrap_or_default();
    ensure!(taints.iter().any(|taint| taint.key == "samara.dev/reserved"), "{taints:?}");
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
    ensure!(features.is_sorted(), "{features:?}");
    let info = status.node_info.context("no nodeInfo")?;
    ensure!(info.operating_system == "linux" && info.container_runtime_version.contains("://"), "{info:?}");
    ensure!(info.kernel_version == nix::sys::utsname::uname()?.release().to_string_lossy(), "{info:?}");
    Ok(())
}
