//! Certificates that end are renewed before they do, while everything goes on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use samara_tests::cluster::addresses;
use samara_tests::cluster::pki::Identity;
use samara_tests::manifest::PodSpec;
use samara_tests::node::{For, Node, Options};
use samara_tests::scene::{PATIENCE, Scene};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![both_certificates_are_renewed_before_they_end_and_connections_go_on];

const LIFE: Duration = Duration::from_secs(40);

/// The node's plain kubeconfig has a certificate that ends in 40 seconds, and so has the certificate that it shows.
async fn both_certificates_are_renewed_before_they_end_and_connections_go_on(scene: &Scene) -> Result<()> {
    let (cluster, name) = (scene.cluster(), "renewing");
    let node = Node::start(cluster, &Options { whom: For::OneTest, ..Options::new(name) }).await?;
    node.ready(cluster).await?;
    scene.create::<Pod>(PodSpec::of("spin-cpu").on(name).pod("talker")).await?;
    scene.log_with("talker", "rounds").await?;

    node.stop_agent(PATIENCE)?;
    let user = format!("system:node:{name}");
    let identity = Identity { user: &user, group: Some("system:nodes") };
    let passing = cluster.pki().passing(identity, name, node.ip().into(), LIFE)?;
    let issued = Instant::now();
    cluster
        .pki()
        .write(&format!("{name}.conf"), &cluster.pki().signed_kubeconfig(&addresses::api_server(), &passing)?)?;
    std::fs::write(
        node.root_dir().join("pki/kubelet-server-current.pem"),
        format!("{}{}", passing.certificate, passing.key),
    )?;
    node.start_agent(cluster)?;

    let passing = pem_to_der(&passing.certificate)?;
    until("the node shows the certificate that ends", PATIENCE, async || {
        Ok(Seen::when(node.shown_certificate().await.is_ok_and(|shown| shown == passing), "another one"))
    })
    .await?;
    // A connection through the API server to the node, from before the change.
    let follow = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };
    let mut followed = scene.api::<Pod>().log_stream("talker", &follow).await?.lines();
    followed.try_next().await?.context("the log says nothing")?;

    until("the node shows a new certificate", LIFE, async || {
        let shown = node.shown_certificate().await?;
        Ok(Seen::when(shown != passing, "the one that ends"))
    })
    .await?;
    ensure!(issued.elapsed() < LIFE, "it came after {:?}, when the old one was over", issued.elapsed());
    let requests = Api::<CertificateSigningRequest>::all(cluster.client().clone());
    until("a new client certificate was signed", PATIENCE, async || {
        let all = requests.list(&Default::default()).await?.items;
        let signed = all.iter().any(|request| {
            request.spec.username.as_deref() == Some(&user)
                && request.spec.signer_name == "kubernetes.io/kube-apiserver-client-kubelet"
                && request.status.as_ref().is_some_and(|status| status.certificate.is_some())
        });
        Ok(Seen::when(signed, "none"))
    })
    .await?;
    until("the old certificates are over", LIFE, async || {
        tokio::time::timeout(PATIENCE, followed.try_next()).await.context("the log fell silent")??.context("cut")?;
        Ok(Seen::when(issued.elapsed() > LIFE + Duration::from_secs(1), "not yet"))
    })
    .await?;

    // The node still speaks to the API server, and the API server to the node.
    let ended = json!({ "restartPolicy": "Never" });
    scene.create::<Pod>(PodSpec::of("hello").on(name).set(ended).pod("hello")).await?;
    scene.over("hello").await?;
    scene.log_with("hello", "hello from samara").await?;

    // And so does the agent that comes after this one, whose kubeconfig has a certificate that is over.
    node.kill_agent()?;
    node.start_agent(cluster)?;
    scene.create::<Pod>(PodSpec::of("hello").on(name).set(json!({ "restartPolicy": "Never" })).pod("again")).await?;
    scene.over("again").await?;
    Ok(())
}

fn pem_to_der(pem: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}
