//! Who may use the node's API.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use reqwest::{Certificate, Client, StatusCode};
use samara_tests::scene::Scene;
use serde_json::json;

use crate::trial::tests;

tests![
    a_stranger_gets_401_from_the_nodes_api,
    a_service_account_without_rights_gets_403_and_with_them_200,
    the_serving_certificate_is_the_clusters,
    the_health_of_the_node_is_told_on_loopback_only,
];

const PATHS: [&str; 10] = [
    "/pods",
    "/runningpods/",
    "/metrics",
    "/metrics/resource",
    "/stats/summary",
    "/containerLogs/a/b/c",
    "/exec/a/b/c",
    "/attach/a/b/c",
    "/configz",
    "/healthz",
];

fn url(scene: &Scene, path: &str) -> String {
    format!("https://{}:10250{path}", scene.node().ip())
}

/// A client that trusts the cluster's authority and nobody else.
fn client(scene: &Scene) -> Result<Client> {
    let ca = Certificate::from_pem(scene.cluster().pki().ca().as_bytes())?;
    Ok(Client::builder().tls_certs_only([ca]).build()?)
}

async fn a_stranger_gets_401_from_the_nodes_api(scene: &Scene) -> Result<()> {
    let client = client(scene)?;
    for path in PATHS {
        for token in [None, Some("nonsense"), Some("")] {
            let mut request = client.get(url(scene, path));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let status = request.send().await?.status();
            ensure!(status == StatusCode::UNAUTHORIZED, "{path} with token {token:?}: {status}");
        }
    }
    Ok(())
}

async fn token(scene: &Scene, account: &str) -> Result<String> {
    let api = scene.api::<ServiceAccount>();
    let request: TokenRequest = serde_json::from_value(json!({ "spec": { "audiences": [] }, "metadata": {} }))?;
    let answer =
        api.create_token_request(account, &PostParams::default(), &request).await.context("ask for a token")?;
    answer.status.and_then(|status| status.token).context("no token")
}

async fn a_service_account_without_rights_gets_403_and_with_them_200(scene: &Scene) -> Result<()> {
    scene.kubectl(&["create", "serviceaccount", "visitor"]).await?;
    scene.kubectl(&["create", "serviceaccount", "monitor"]).await?;
    let subject = format!("{}:monitor", scene.namespace());
    let role = format!("metrics-{}", scene.namespace());
    let kubectl = scene.cluster().kubectl();
    kubectl.run(&["create", "clusterrole", &role, "--verb=get", "--resource=nodes/metrics,nodes/stats"]).await?;
    kubectl.run(&["create", "clusterrolebinding", &role, "--clusterrole", &role, "--serviceaccount", &subject]).await?;

    let client = client(scene)?;
    let ask = async |token: &str, path: &str| -> Result<StatusCode> {
        Ok(client.get(url(scene, path)).bearer_auth(token).send().await?.status())
    };
    let visitor = token(scene, "visitor").await?;
    for path in PATHS {
        let status = ask(&visitor, path).await?;
        ensure!(status == StatusCode::FORBIDDEN, "the visitor, {path}: {status}");
    }
    let monitor = token(scene, "monitor").await?;
    for (path, wanted) in [
        ("/metrics", StatusCode::OK),
        ("/metrics/resource", StatusCode::OK),
        ("/stats/summary", StatusCode::OK),
        ("/containerLogs/a/b/c", StatusCode::FORBIDDEN),
        ("/exec/a/b/c", StatusCode::FORBIDDEN),
        ("/attach/a/b/c", StatusCode::FORBIDDEN),
        ("/configz", StatusCode::FORBIDDEN),
        ("/healthz", StatusCode::FORBIDDEN),
    ] {
        let status = ask(&monitor, path).await?;
        ensure!(status == wanted, "the monitor, {path}: {status}");
    }
    Ok(())
}

async fn the_serving_certificate_is_the_clusters(scene: &Scene) -> Result<()> {
    // The client trusts only the cluster's authority: an answer at all is the proof.
    let answer = client(scene)?.get(url(scene, "/pods")).send().await.context("TLS with the cluster's authority")?;
    ensure!(answer.status() == StatusCode::UNAUTHORIZED);
    Ok(())
}

async fn the_health_of_the_node_is_told_on_loopback_only(scene: &Scene) -> Result<()> {
    let from_outside = tokio::net::TcpStream::connect((scene.node().ip(), 10248)).await;
    ensure!(from_outside.is_err(), "port 10248 answers from outside");
    let inside = scene.node().namespace().run(|| -> Result<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect("127.0.0.1:10248")?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })??;
    ensure!(inside.starts_with("HTTP/1.0 200") || inside.starts_with("HTTP/1.1 200"), "{inside}");
    Ok(())
}
