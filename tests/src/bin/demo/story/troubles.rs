//! What goes wrong, and how it is told.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use samara_tests::cluster::Cluster;
use samara_tests::samples;
use samara_tests::scene::{container_state, describe};
use samara_tests::wait::{Seen, until};

use crate::tell::Teller;

const LIMIT: Duration = Duration::from_secs(60);

/// Applies what needs time to go wrong.
pub(super) async fn begin(cluster: &Cluster) -> Result<()> {
    for name in ["crash-loop", "hog-memory", "spin-cpu", "toolbox"] {
        cluster.kubectl().run(&["apply", "-f", &samples::manifest(name).to_string_lossy()]).await?;
    }
    Ok(())
}

pub(super) async fn are_told(cluster: &Cluster, teller: &mut Teller) -> Result<()> {
    let pods = Api::<Pod>::default_namespaced(cluster.client().clone());
    teller
        .step("A guest that always fails is in CrashLoopBackOff, with its count", async |tell| {
            until("crash-loop is in CrashLoopBackOff", LIMIT, async || {
                let pod = pods.get("crash-loop").await?;
                let status = container_state(&pod, "crash-loop");
                let waiting = status.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
                let restarts = status.map_or(0, |status| status.restart_count);
                Ok(Seen::when(waiting == Some("CrashLoopBackOff") && restarts > 0, describe(&pod)))
            })
            .await?;
            tell.show(cluster.kubectl(), &["get", "pod", "crash-loop"]).await?;
            tell.show(cluster.kubectl(), &["logs", "--previous", "crash-loop"]).await?;
            Ok(())
        })
        .await?;
    teller
        .step("A guest that takes more memory than its limit is ended: OOMKilled, 137", async |tell| {
            let pod = until("hog-memory is over", LIMIT, async || {
                let pod = pods.get("hog-memory").await?;
                let over = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
                let text = describe(&pod);
                Ok(Seen::some(over.then_some(pod), text))
            })
            .await?;
            tell.say(&describe(&pod));
            Ok(())
        })
        .await
}
