//! containerd's Sandbox API (`containerd.runtime.sandbox.v1`): a pod without a pause image. For a runtime that is configured
//! with `sandboxer = "shim"`.
//!
//! ```text
//!  CreateSandbox ─▶ a container of our own that only waits: it holds the pod's ipc and uts namespaces and its network
//!  StartSandbox  ─▶ its pid, by which containerd's containers join those namespaces
//!  StopSandbox   ─▶ it ends, WaitSandbox answers         ShutdownSandbox ─▶ removed, and with it the front
//! ```
//!
//! The sandbox is a task like any other, but in a table of its own and without events: containerd has no container of its
//! name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::sandbox_api as api;
use containerd_shim_protos::sandbox_async::Sandbox as SandboxApi;
use protobuf::MessageField;
use serde_json::json;
use tokio::sync::Notify;
use ttrpc::r#async::TtrpcContext;

use super::error::TaskError;
use super::events::timestamp;
use super::orphan;
use super::phase::Phase;
use super::task::Task;
use super::tasks::Tasks;
use samara_shim_client::bundle::Bundle;
use samara_shim_client::cgroup::Stats;
use samara_shim_client::client::CreateTask;
use samara_shim_client::metrics;

/// The CRI's words for a sandbox's state.
const READY: &str = "SANDBOX_READY";
const NOT_READY: &str = "SANDBOX_NOTREADY";

/// The service of one front.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes {
    /// The sandbox itself.
    sandboxes: Arc<Tasks>,
    /// The containers in it.
    containers: Arc<Tasks>,
    /// Told when the front may end.
    over: Arc<Notify>,
}

impl Sandboxes {
    pub(crate) fn new(sandboxes: Arc<Tasks>, containers: Arc<Tasks>, over: Arc<Notify>) -> Self {
        Self { sandboxes, containers, over }
    }

    fn get(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.sandboxes.get(id)
    }

    async fn create(&self, request: api::CreateSandboxRequest) -> Result<(), TaskError> {
        let bundle = Bundle::new(PathBuf::from(request.bundle_path));
        let config = config(&request.sandbox_id, &request.netns_path).to_string();
        let io = |operation| {
            let path = bundle.dir().to_path_buf();
            move |source| TaskError::Io { operation, path, source }
        };
        fs::create_dir_all(bundle.dir()).map_err(io("make"))?;
        fs::write(bundle.config(), config).map_err(io("write the configuration of"))?;
        let create = CreateTask { id: request.sandbox_id, bundle: bundle.dir().into(), ..CreateTask::default() };
        self.sandboxes.create(create).await?;
        Ok(())
    }

    /// Ends it if it lives. One that is gone is as good.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), TaskError> {
        let task = match self.get(id) {
            Err(TaskError::NoTask(_)) => return Ok(()),
            task => task?,
        };
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            match task.kill("", signal.cast_unsigned(), false).await {
                Ok(()) => {}
                Err(TaskError::Finished) => return Ok(()),
                Err(error) => return Err(error),
            }
            if tokio::time::timeout(grace, task.init.ended()).await.is_ok() {
                return Ok(());
            }
        }
        task.init.ended().await?;
        Ok(())
    }

    async fn shut_down(&self, id: &str) -> Result<(), TaskError> {
        self.stop(id, Duration::from_secs(1)).await?;
        match self.sandboxes.delete(id, "").await {
            Ok(_) | Err(TaskError::NoTask(_)) => {}
            Err(error) => return Err(error),
        }
        self.over.notify_one();
        Ok(())
    }

    /// Of the pod's cgroup, in which its containers are.
    fn stats(&self) -> Result<Option<Stats>, TaskError> {
        let containers = self.containers.all();
        let pod = containers.iter().find_map(|task| task.init.cgroup.as_ref()?.parent());
        Ok(pod.map(|pod| pod.stats()).transpose()?)
    }
}

#[async_trait]
impl SandboxApi for Sandboxes {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::CreateSandboxRequest,
    ) -> ttrpc::Result<api::CreateSandboxResponse> {
        let own = self.clone();
        whole(Box::pin(async move { own.create(request).await })).await?;
        Ok(api::CreateSandboxResponse::new())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::StartSandboxRequest,
    ) -> ttrpc::Result<api::StartSandboxResponse> {
        let task = self.get(&request.sandbox_id)?;
        let mut response = api::StartSandboxResponse::new();
        response.pid = whole(async move { task.start().await }).await?.cast_unsigned();
        response.created_at = MessageField::some(timestamp(orphan::now()));
        Ok(response)
    }

    /// containerd makes specifications for the systems that it knows: ours is Linux's, and a guest's image is chosen by
    /// what its manifest says.
    async fn platform(&self, _: &TtrpcContext, _: api::PlatformRequest) -> ttrpc::Result<api::PlatformResponse> {
        let mut response = api::PlatformResponse::new();
        let platform = response.platform.mut_or_insert_default();
        platform.os = "linux".into();
        platform.architecture = architecture().into();
        Ok(response)
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::StopSandboxRequest,
    ) -> ttrpc::Result<api::StopSandboxResponse> {
        let grace = Duration::from_secs(request.timeout_secs.max(1).into());
        let own = self.clone();
        whole(async move { own.stop(&request.sandbox_id, grace).await }).await?;
        Ok(api::StopSandboxResponse::new())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::WaitSandboxRequest,
    ) -> ttrpc::Result<api::WaitSandboxResponse> {
        let record = self.get(&request.sandbox_id)?.init.ended().await?;
        let mut response = api::WaitSandboxResponse::new();
        response.exit_status = record.exit_code;
        response.exited_at = MessageField::some(timestamp(record.exited_at_nanos));
        Ok(response)
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: api::SandboxStatusRequest,
    ) -> ttrpc::Result<api::SandboxStatusResponse> {
        let task = self.get(&request.sandbox_id)?;
        let phase = task.init.phase();
        let mut response = api::SandboxStatusResponse::new();
        response.sandbox_id = request.sandbox_id;
        response.pid = phase.pid().unwrap_or(0).cast_unsigned();
        response.state = state(&phase).into();
        if let Ok(Some(start)) = task.bundle().start_record() {
            response.created_at = MessageField::some(timestamp(start.created_at_nanos));
        }
        if let Some(record) = phase.exit() {
            response.exited_at = MessageField::some(timestamp(record.exited_at_nanos));
        }
        if request.verbose {
            response.info.insert("bundle".into(), task.bundle().dir().display().to_string());
            response.info.insert("containers".into(), self.containers.all().len().to_string());
        }
        Ok(response)
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, request: api::PingRequest) -> ttrpc::Result<api::PingResponse> {
        self.get(&request.sandbox_id)?;
        Ok(api::PingResponse::new())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::ShutdownSandboxRequest,
    ) -> ttrpc::Result<api::ShutdownSandboxResponse> {
        let own = self.clone();
        whole(async move { own.shut_down(&request.sandbox_id).await }).await?;
        Ok(api::ShutdownSandboxResponse::new())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: api::SandboxMetricsRequest,
    ) -> ttrpc::Result<api::SandboxMetricsResponse> {
        self.get(&request.sandbox_id)?;
        let mut response = api::SandboxMetricsResponse::new();
        let metric = response.metrics.mut_or_insert_default();
        metric.id = request.sandbox_id;
        metric.timestamp = MessageField::some(timestamp(orphan::now()));
        let version = self.sandboxes.tools.cgroups.version();
        // Before its first container there is nothing to count.
        metric.data = self.stats()?.map(|stats| metrics::to_any(version, &stats)).into();
        Ok(response)
    }
}

/// Carries a change out to its end, even if the caller goes away in the middle: its future is dropped then.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
) -> Result<T, ttrpc::Error> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(ttrpc::Error::from),
        Err(panicked) => Err(ttrpc::Error::Others(panicked.to_string())),
    }
}

/// What holds the pod's namespaces. Without a network of its own the pod has the host's.
fn config(id: &str, netns: &str) -> serde_json::Value {
    let own = ["ipc", "uts", "pid", "mount"].map(|typ| json!({"type": typ}));
    let network = (!netns.is_empty()).then(|| json!({"type": "network", "path": Path::new(netns)}));
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["/pause"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true},
        "annotations": {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.container-name": "sandbox"},
        "hostname": id.chars().take(63).collect::<String>(),
        "linux": {"namespaces": own.into_iter().chain(network).collect::<Vec<_>>()},
    })
}

fn state(phase: &Phase) -> &'static str {
    match phase {
        Phase::Created { .. } | Phase::Running { .. } | Phase::Paused { .. } => READY,
        Phase::Added | Phase::Creating | Phase::Stopped(_) | Phase::Failed => NOT_READY,
    }
}

/// As Go names them.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_has_its_own_namespaces_and_the_network_it_is_given() {
        let types = |netns: &str| {
            let config = config("abc", netns);
            let list = config["linux"]["namespaces"].as_array().expect("list").clone();
            list.iter().map(|one| one["type"].as_str().expect("type").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(types(""), ["ipc", "uts", "pid", "mount"], "the host's network");
        assert_eq!(types("/run/netns/x").last().map(String::as_str), Some("network"));
        let long = config(&"f".repeat(64), "");
        assert_eq!(long["hostname"].as_str().map(str::len), Some(63), "what the kernel takes");
    }
}
