//! What an earlier agent left: its running containers are taken over, its leftovers removed. Nothing restarts.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::Spec;
use samara_core::pod::{Sandbox, is_host_network};
use samara_inside::remove_directory_at;
use samara_shim_client::{ShimError, Status, annotations};
use tracing::{info, warn};

use super::PodRef;
use super::context::Context;
use super::logs;
use super::sandbox::take_down;
use super::start::discard;
use crate::shims::{Record, Signal, Task};

/// An orphan's containers have this long to end by themselves.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// A pod's past.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    pub(super) attempts: Vec<(Task, Record)>,
    pub(super) sandbox: Sandbox,
}

/// Finds out what became of a pod's attempts. What was made and never ran is removed.
pub(super) async fn adopt(context: &Context, pod: &PodRef, spec: &Pod, found: Vec<(PathBuf, Record)>) -> Adopted {
    let mut adopted = Adopted::default();
    for (bundle, mut record) in found {
        let front = context.shims.adopt(&pod.uid, record.front);
        let task = Task::new(&record.id, &bundle, front);
        if record.started_at.is_none() && record.ended.is_none() {
            match began(&task).await {
                Some(started_at) => record.started_at = Some(started_at),
                None => {
                    discard(&task).await;
                    continue;
                }
            }
        }
        adopted.attempts.push((task, record));
    }
    if adopted.attempts.iter().any(|(_, record)| record.ended.is_none()) {
        let pod_ips = match is_host_network(spec) {
            true => context.node.addresses().to_vec(),
            // Before the network is up its containers' own configuration tells them.
            false => match context.network.attach(&pod.uid, Timestamp::now()) {
                Ok(attachment) => attachment.ips,
                Err(_) => adopted.attempts.iter().find_map(|(task, _)| pod_ips(task)).unwrap_or_default(),
            },
        };
        adopted.sandbox = Sandbox { ready: true, pod_ips };
        info!(pod = %pod, "adopted");
    }
    adopted
}

fn pod_ips(task: &Task) -> Option<Vec<IpAddr>> {
    let spec = Spec::load(task.bundle().dir().join("config.json")).ok()?;
    let text = spec.annotations().as_ref()?.get(annotations::POD_IPS)?;
    text.split(',').map(|ip| ip.parse().ok()).collect()
}

/// The agent died between asking for the start and writing it down: the front knows whether the guest ran.
async fn began(task: &Task) -> Option<Timestamp> {
    let created_at = task.bundle().start_record().ok().flatten()?.created_at_nanos;
    let status = match task.shim().await {
        Ok(shim) => shim.state(task.id(), "").await.map(|state| state.status),
        Err(error) => Err(error),
    };
    match status {
        Ok(Status::Running | Status::Stopped | Status::Paused) => Timestamp::from_nanosecond(created_at.into()).ok(),
        Ok(Status::Created | Status::Unknown) | Err(ShimError::NotFound { .. }) => None,
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "the state of a container is not known; taking it as running"
            );
            Timestamp::from_nanosecond(created_at.into()).ok()
        }
    }
}

/// Ends what still runs of a pod that is gone, and removes all that it left. Gives the UID, as workers do.
pub(super) async fn remove_orphan(context: Arc<Context>, uid: Arc<str>, attempts: Vec<(PathBuf, Record)>) -> Arc<str> {
    for (bundle, record) in attempts.iter().filter(|(_, record)| record.ended.is_none()) {
        let task = Task::new(&record.id, bundle, context.shims.adopt(&uid, record.front));
        drop(task.kill(Signal::Terminate(15)).await);
        if tokio::time::timeout(ORPHAN_GRACE, task.wait()).await.is_err() {
            drop(task.kill(Signal::Kill).await);
            drop(tokio::time::timeout(ORPHAN_GRACE, task.wait()).await);
        }
        discard(&task).await;
    }
    let pod = PodRef { uid: uid.clone(), namespace: "".into(), name: "".into() };
    take_down(&context, &pod).await;
    for (_, record) in &attempts {
        // <logs>/<namespace>_<name>_<uid>/<container>/<attempt>.log
        if let Some(dir) = record.log.ancestors().nth(2).filter(|dir| dir.starts_with(context.layout.logs())) {
            drop(fs::remove_dir_all(dir));
            logs::remove_links(context.layout.log_links(), "", dir);
        }
    }
    drop(remove_directory_at(&context.layout.pod_bundles(&uid)));
    context.status.forget(pod);
    uid
}

/// Directories, logs and addresses of pods that nobody knows.
pub(super) fn remove_leftovers(context: &Context, known: &HashSet<Arc<str>>) {
    let is_known = |uid: &str| known.contains(uid) || has_bundles(context, uid);
    for dir in [context.layout.pods(), context.layout.projections()] {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let kept = name.to_str().is_none_or(is_known);
            if !kept && let Err(error) = crate::volumes::remove_tree(&entry.path()) {
                warn!(error = error.text(), "what is left of a pod could not be removed");
            }
        }
    }
    logs::remove_all_but(&context.layout, is_known);
    let known: HashSet<String> = known.iter().map(ToString::to_string).collect();
    let bundles = fs::read_dir(context.layout.bundles()).into_iter().flatten().flatten();
    let with_bundles = bundles.filter_map(|entry| entry.file_name().into_string().ok());
    if let Err(error) =
        context.network.release_all_but(&known.into_iter().chain(with_bundles).collect(), Timestamp::now())
    {
        warn!(error = &error as &dyn std::error::Error, "addresses of pods that are gone could not be freed");
    }
}

fn has_bundles(context: &Context, uid: &str) -> bool {
    context.layout.pod_bundles(uid).exists()
}
