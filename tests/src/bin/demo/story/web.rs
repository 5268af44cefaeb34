//! A Deployment that serves, and changes its version while it does.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use samara_tests::cluster::Cluster;
use samara_tests::load::{self, Load, Way};
use samara_tests::samples;
use samara_tests::scene::pod_ip;

use crate::tell::Teller;

pub(super) async fn becomes_ready(cluster: &Cluster, teller: &mut Teller) -> Result<()> {
    teller
        .step(
            "An ordinary Deployment of three HTTP pods becomes Ready, and each answers on its own pod IP",
            async |tell| {
                let manifest = samples::manifest("http-hello");
                cluster.kubectl().run(&["apply", "-f", &manifest.to_string_lossy()]).await?;
                tell.say("$ kubectl apply -f samples/http-hello/http-hello.yaml");
                tell.show(cluster.kubectl(), &["rollout", "status", "deployment/http-hello", "--timeout=60s"]).await?;
                tell.show(cluster.kubectl(), &["get", "pods", "-l", "app=http-hello", "-o", "wide"]).await?;
                for pod in pods(cluster).await? {
                    let ip = pod_ip(&pod).with_context(|| format!("{} has no address", pod.name_any()))?.parse()?;
                    let answer = load::get(SocketAddr::new(ip, 8080), "/").await?;
                    tell.say(&format!("http://{ip}:8080/ says: {}", answer.trim()));
                }
                Ok(())
            },
        )
        .await
}

pub(super) async fn is_updated_under_load(cluster: &Cluster, teller: &mut Teller) -> Result<()> {
    teller
        .step("It is updated to v2 and rolled back under load, and no request fails", async |tell| {
            let loads =
                [Way::Endpoints, Way::ApiServer].map(|way| Load::start(cluster.client(), "default", "http-hello", way));
            let loads = futures::future::try_join_all(loads).await?;
            let v2 = format!("http-hello={}", samples::image("http-hello:v2"));
            tell.show(cluster.kubectl(), &["set", "image", "deployment/http-hello", &v2]).await?;
            cluster.kubectl().run(&["rollout", "status", "deployment/http-hello", "--timeout=60s"]).await?;
            loads[0].more(50).await?;
            tell.show(cluster.kubectl(), &["rollout", "undo", "deployment/http-hello"]).await?;
            cluster.kubectl().run(&["rollout", "status", "deployment/http-hello", "--timeout=60s"]).await?;
            loads[0].more(50).await?;
            for (load, way) in
                loads.into_iter().zip(["straight to the ready endpoints", "through the API server's service proxy"])
            {
                let tally = load.finish().await;
                tally.no_failure().with_context(|| way.to_owned())?;
                tell.say(&format!(
                    "{way}: {} answers of v1, {} of v2, 0 failed, none tried twice",
                    tally.with("from v1"),
                    tally.with("from v2"),
                ));
            }
            Ok(())
        })
        .await
}

async fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let api = Api::<Pod>::default_namespaced(cluster.client().clone());
    Ok(api.list(&ListParams::default().labels("app=http-hello")).await?.items)
}
