//! containerd's task service (API v3, and v2, which differs in its name only).

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::shim_async::Task as TaskApi;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use ttrpc::r#async::TtrpcContext;

use super::error::TaskError;
use super::events::{Event, timestamp};
use super::phase::Phase;
use super::process::Process;
use super::tasks::{Tasks, check_id};
use super::{task, terminal};
use samara_shim_client::bundle::ExitRecord;
use samara_shim_client::client::{CreateTask, RootMount, Standard};
use samara_shim_client::metrics;

/// The service of one front.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    tasks: Arc<Tasks>,
    /// Told when the front may end.
    over: Arc<Notify>,
    /// Calls that change something and are not done; closed while the front is being replaced.
    changes: TaskTracker,
}

impl Service {
    pub(crate) fn new(tasks: Arc<Tasks>, over: Arc<Notify>) -> Self {
        Self { tasks, over, changes: TaskTracker::new() }
    }

    pub(crate) fn changes(&self) -> TaskTracker {
        self.changes.clone()
    }

    /// Carries a change out to its end, even if the caller goes away in the middle: its future is dropped then.
    async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
    ) -> Result<T, ttrpc::Error> {
        if self.changes.is_closed() {
            return Err(TaskError::Replaced.into());
        }
        match self.changes.spawn(work).await {
            Ok(done) => done.map_err(ttrpc::Error::from),
            Err(panicked) => Err(ttrpc::Error::Others(panicked.to_string())),
        }
    }
}

#[async_trait]
impl TaskApi for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        if !request.checkpoint.is_empty() {
            return Err(TaskError::Unsupported("a checkpoint").into());
        }
        let tasks = Arc::clone(&self.tasks);
        let create = CreateTask {
            id: request.id,
            bundle: request.bundle.into(),
            rootfs: request.rootfs.iter().map(RootMount::from_proto).collect(),
            standard: Standard {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
        };
        let pid = self.whole(async move { tasks.create(create).await }).await?;
        let mut response = api::CreateTaskResponse::new();
        response.pid = pid.cast_unsigned();
        Ok(response)
    }

    async fn start(&self, _: &TtrpcContext, request: api::StartRequest) -> ttrpc::Result<api::StartResponse> {
        let tasks = Arc::clone(&self.tasks);
        let start = async move {
            let task = tasks.get(&request.id)?;
            if request.exec_id.is_empty() {
                task.start().await
            } else {
                task.start_exec(&tasks.tools, &request.exec_id).await
            }
        };
        let mut response = api::StartResponse::new();
        response.pid = self.whole(start).await?.cast_unsigned();
        Ok(response)
    }

    async fn delete(&self, _: &TtrpcContext, request: api::DeleteRequest) -> ttrpc::Result<api::DeleteResponse> {
        let tasks = Arc::clone(&self.tasks);
        let record = self.whole(async move { tasks.delete(&request.id, &request.exec_id).await }).await?;
        let mut response = api::DeleteResponse::new();
        response.pid = record.pid.cast_unsigned();
        response.exit_status = record.exit_code;
        response.exited_at = MessageField::some(timestamp(record.exited_at_nanos));
        Ok(response)
    }

    async fn state(&self, _: &TtrpcContext, request: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        let task = self.tasks.get(&request.id)?;
        let process = task.process(&request.exec_id)?;
        Ok(state(&process, task.bundle().dir().display().to_string()))
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<api::Empty> {
        let task = self.tasks.get(&request.id)?;
        self.whole(async move { task.kill(&request.exec_id, request.signal, request.all).await }).await?;
        Ok(api::Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        let record = process.ended().await?;
        let mut response = api::WaitResponse::new();
        response.exit_status = record.exit_code;
        response.exited_at = MessageField::some(timestamp(record.exited_at_nanos));
        Ok(response)
    }

    async fn exec(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> ttrpc::Result<api::Empty> {
        check_id(&request.exec_id)?;
        let task = self.tasks.get(&request.id)?;
        let process = json("spec", request.spec.as_ref())?;
        let standard = Standard {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        task.add_exec(&self.tasks.tools, &request.exec_id, process, standard)?;
        Ok(api::Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: api::ResizePtyRequest) -> ttrpc::Result<api::Empty> {
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        terminal::resize(&process, request.width, request.height)?;
        Ok(api::Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: api::CloseIORequest) -> ttrpc::Result<api::Empty> {
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        if request.stdin && process.phase().pid().is_some() {
            self.whole(async move { process.close_stdin().await }).await?;
        }
        Ok(api::Empty::new())
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> ttrpc::Result<api::PidsResponse> {
        let pids = self.tasks.get(&request.id)?.pids()?;
        let process = |pid: i32| {
            let mut process = api::ProcessInfo::new();
            process.pid = pid.cast_unsigned();
            process
        };
        let mut response = api::PidsResponse::new();
        response.processes = pids.into_iter().map(process).collect();
        Ok(response)
    }

    async fn stats(&self, _: &TtrpcContext, request: api::StatsRequest) -> ttrpc::Result<api::StatsResponse> {
        let stats = self.tasks.get(&request.id)?.stats()?;
        let mut response = api::StatsResponse::new();
        response.stats = MessageField::some(metrics::to_any(self.tasks.tools.cgroups.version(), &stats));
        Ok(response)
    }

    async fn update(&self, _: &TtrpcContext, request: api::UpdateTaskRequest) -> ttrpc::Result<api::Empty> {
        let resources = json("resources", request.resources.as_ref())?;
        let task = self.tasks.get(&request.id)?;
        self.whole(async move { task.update(&resources).await }).await?;
        Ok(api::Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> ttrpc::Result<api::Empty> {
        self.tasks.get(&request.id)?.freeze(true)?;
        self.tasks.tools.events.publish(Event::Paused { id: request.id });
        Ok(api::Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: api::ResumeRequest) -> ttrpc::Result<api::Empty> {
        self.tasks.get(&request.id)?.freeze(false)?;
        self.tasks.tools.events.publish(Event::Resumed { id: request.id });
        Ok(api::Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: api::CheckpointTaskRequest) -> ttrpc::Result<api::Empty> {
        Err(TaskError::Unsupported("a checkpoint").into())
    }

    async fn connect(&self, _: &TtrpcContext, request: api::ConnectRequest) -> ttrpc::Result<api::ConnectResponse> {
        let task = self.tasks.get(&request.id)?;
        let mut response = api::ConnectResponse::new();
        response.shim_pid = std::process::id();
        response.task_pid = task.init.phase().pid().unwrap_or(0).cast_unsigned();
        response.version = env!("CARGO_PKG_VERSION").into();
        Ok(response)
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> ttrpc::Result<api::Empty> {
        if self.tasks.is_empty() {
            self.over.notify_one();
        }
        Ok(api::Empty::new())
    }
}

fn json<T: serde::de::DeserializeOwned>(field: &'static str, any: Option<&Any>) -> Result<T, TaskError> {
    let bytes = any.map(|any| any.value.as_slice()).unwrap_or_default();
    serde_json::from_slice(bytes).map_err(|source| TaskError::Request { field, source })
}

fn state(process: &Process, bundle: String) -> api::StateResponse {
    let standard = task::standard(&process.record);
    let phase = process.phase();
    let mut response = api::StateResponse::new();
    response.id = process.record.id.clone();
    response.exec_id = process.record.exec_id.clone();
    response.bundle = bundle;
    response.pid = phase.pid().unwrap_or(0).cast_unsigned();
    response.set_status(status(&phase));
    response.stdin = standard.stdin;
    response.stdout = standard.stdout;
    response.stderr = standard.stderr;
    response.terminal = standard.terminal;
    if let Some(ExitRecord { pid, exit_code, exited_at_nanos, .. }) = phase.exit() {
        response.pid = pid.cast_unsigned();
        response.exit_status = *exit_code;
        response.exited_at = MessageField::some(timestamp(*exited_at_nanos));
    }
    response
}

fn status(phase: &Phase) -> api::Status {
    match phase {
        Phase::Added | Phase::Creating | Phase::Created { .. } => api::Status::CREATED,
        Phase::Running { .. } => api::Status::RUNNING,
        Phase::Paused { .. } => api::Status::PAUSED,
        Phase::Stopped(_) | Phase::Failed => api::Status::STOPPED,
    }
}
