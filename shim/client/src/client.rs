//! Typed calls of the task API (v3) to one front.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_shim_protos::api;
use containerd_shim_protos::shim_async::TaskClient;
use oci_spec::runtime::{LinuxResources, Process};
use protobuf::Message as _;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::struct_::ListValue;
use protobuf::well_known_types::timestamp::Timestamp;
use ttrpc::context::{Context, with_duration, with_timeout};

use crate::cgroup::Stats;
use crate::error::ShimError;
use crate::{listening, metrics};

/// Nothing the front does takes longer, compiling a module included; a longer silence is a broken front.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to a front; cheap to clone, calls may overlap.
#[derive(Clone)]
pub struct Shim {
    client: TaskClient,
    connection: ttrpc::r#async::Client,
    socket: PathBuf,
}

/// One file system of a task's root, as in `fstab`: `type`, `source`, options. Mounted by the front, detached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootMount {
    /// `overlay`, `bind`, ...
    pub typ: String,
    pub source: String,
    pub options: Vec<String>,
}

/// Files 0, 1 and 2 of a process. Output: see [`crate::output`]; input: a fifo or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standard {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    /// All three are a pty; `stderr` is empty then.
    pub terminal: bool,
}

/// A container to make from a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateTask {
    pub id: String,
    /// Directory that holds `config.json`.
    pub bundle: PathBuf,
    /// Empty: the bundle's `root.path` is the root as it is.
    pub rootfs: Vec<RootMount>,
    pub standard: Standard,
}

/// A further process in a running container.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecTask {
    pub id: String,
    pub exec_id: String,
    pub process: Process,
    pub standard: Standard,
}

/// How a process ended, as far as the task API can say; `exit.json` ([`crate::bundle::ExitRecord`]) says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 0 from [`Shim::wait`], which does not tell it.
    pub pid: u32,
    pub code: u32,
    /// Nanoseconds since the epoch; 0 for a process that was never started.
    pub exited_at_nanos: i64,
}

/// The task's state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Stopped,
    Paused,
    Unknown,
}

/// What `State` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub bundle: PathBuf,
    pub pid: u32,
    pub status: Status,
    pub standard: Standard,
    /// Set when [`Status::Stopped`].
    pub exit: Option<Exit>,
}

impl fmt::Debug for Shim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shim").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Shim {
    /// Connects to a front's socket.
    pub async fn connect(socket: &Path) -> Result<Self, ShimError> {
        let refused = |message: String| ShimError::Connect { socket: socket.into(), message };
        let stream = tokio::net::UnixStream::connect(socket).await.map_err(|error| refused(error.to_string()))?;
        let client = ttrpc::r#async::Client::new(stream.into());
        Ok(Self { client: TaskClient::new(client.clone()), connection: client, socket: socket.into() })
    }

    /// The socket it was connected to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// For calls of services beside the task API.
    pub(crate) fn connection(&self) -> &ttrpc::r#async::Client {
        &self.connection
    }

    /// Makes the container's process, which waits for [`Shim::start`]. Gives its pid on the host.
    pub async fn create(&self, task: &CreateTask) -> Result<u32, ShimError> {
        let mut request = api::CreateTaskRequest::new();
        request.set_id(task.id.clone());
        request.set_bundle(task.bundle.to_string_lossy().into_owned());
        request.set_rootfs(task.rootfs.iter().map(RootMount::to_proto).collect());
        request.set_terminal(task.standard.terminal);
        request.set_stdin(task.standard.stdin.clone());
        request.set_stdout(task.standard.stdout.clone());
        request.set_stderr(task.standard.stderr.clone());
        let answer = self.client.create(context(), &request).await;
        answer.map(|answer| answer.pid).map_err(|error| ShimError::of("create", &task.id, error))
    }

    /// Lets the guest run. An empty `exec_id` means the container's first process, here and below.
    pub async fn start(&self, id: &str, exec_id: &str) -> Result<u32, ShimError> {
        let mut request = api::StartRequest::new();
        request.set_id(id.into());
        request.set_exec_id(exec_id.into());
        let answer = self.client.start(context(), &request).await;
        answer.map(|answer| answer.pid).map_err(|error| ShimError::of("start", id, error))
    }

    /// [`Shim::create`] and [`Shim::start`] sent together: one round trip. The front starts a task that is being
    /// created when it is.
    pub async fn create_and_start(&self, task: &CreateTask) -> Result<u32, ShimError> {
        // In this order on the wire: `join!` would else begin with either.
        let (created, started) = tokio::join!(biased; self.create(task), self.start(&task.id, ""));
        created.and(started)
    }

    /// SIGKILL is a signal; SIGTERM and its like ask the process to stop. `all`: every process of the container's cgroup.
    pub async fn kill(&self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<(), ShimError> {
        let mut request = api::KillRequest::new();
        request.set_id(id.into());
        request.set_exec_id(exec_id.into());
        request.set_signal(signal);
        request.set_all(all);
        self.client.kill(context(), &request).await.map(drop).map_err(|error| ShimError::of("kill", id, error))
    }

    /// Removes an ended (or never started) process and all that belongs to it: mounts, cgroup, sockets, records.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Result<Exit, ShimError> {
        let mut request = api::DeleteRequest::new();
        request.set_id(id.into());
        request.set_exec_id(exec_id.into());
        let answer =
            self.client.delete(context(), &request).await.map_err(|error| ShimError::of("delete", id, error))?;
        Ok(Exit { pid: answer.pid, code: answer.exit_status, exited_at_nanos: nanos(&answer.exited_at) })
    }

    /// Waits for the end, however long that takes. Cancel by dropping.
    pub async fn wait(&self, id: &str, exec_id: &str) -> Result<Exit, ShimError> {
        let mut request = api::WaitRequest::new();
        request.set_id(id.into());
        request.set_exec_id(exec_id.into());
        let answer =
            self.client.wait(with_timeout(0), &request).await.map_err(|error| ShimError::of("wait", id, error))?;
        Ok(Exit { pid: 0, code: answer.exit_status, exited_at_nanos: nanos(&answer.exited_at) })
    }

    /// Waits until the container's guest listens on a socket, however long that takes, and gives the addresses on which it
    /// has listened so far (as it bound them, so `0.0.0.0` is possible). At once if it listens already; also for a
    /// container whose creation or start is still on the way. Cancel by dropping.
    ///
    /// # Errors
    /// [`ShimError::FailedPrecondition`] when the container ends, or has ended, even if it listened before;
    /// [`ShimError::NotFound`] for a container that is not known.
    pub async fn listening(&self, id: &str) -> Result<Vec<SocketAddr>, ShimError> {
        let mut request = api::WaitRequest::new();
        request.set_id(id.into());
        let failed = |error| ShimError::of("listening", id, error);
        let other = |message: String| ShimError::Other { operation: "listening", id: id.into(), message };
        let mut call = ttrpc::Request::new();
        call.set_service(listening::SERVICE.into());
        call.set_method(listening::METHOD.into());
        call.set_payload(request.write_to_bytes().map_err(|error| other(error.to_string()))?);
        let answer = self.connection.request(call).await.map_err(failed)?;
        let list = ListValue::parse_from_bytes(&answer.payload).map_err(|error| other(error.to_string()))?;
        listening::from_proto(&list).map_err(|error| other(error.to_string()))
    }

    /// What the process is doing.
    pub async fn state(&self, id: &str, exec_id: &str) -> Result<State, ShimError> {
        let mut request = api::StateRequest::new();
        request.set_id(id.into());
        request.set_exec_id(exec_id.into());
        let answer = self.client.state(context(), &request).await.map_err(|error| ShimError::of("state", id, error))?;
        Ok(state(&answer))
    }

    /// Prepares a further process; [`Shim::start`] with its `exec_id` makes and runs it.
    pub async fn exec(&self, exec: &ExecTask) -> Result<(), ShimError> {
        let mut request = api::ExecProcessRequest::new();
        request.set_id(exec.id.clone());
        request.set_exec_id(exec.exec_id.clone());
        request.set_terminal(exec.standard.terminal);
        request.set_stdin(exec.standard.stdin.clone());
        request.set_stdout(exec.standard.stdout.clone());
        request.set_stderr(exec.standard.stderr.clone());
        request.set_spec(json(PROCESS_TYPE, &exec.process));
        self.client.exec(context(), &request).await.map(drop).map_err(|error| ShimError::of("exec", &exec.id, error))
    }

    /// New size of a process's terminal, in characters.
    pub async fn resize_pty(&self, id: &str, exec_id: &str, width: u32, height: u32) -> Result<(), ShimError> {
        let mut request = api::ResizePtyRequest::new();
        request.set_id(id.into());
        request.set_exec_id(exec_id.into());
        request.set_width(width);
        request.set_height(height);
        self.client
            .resize_pty(context(), &request)
            .await
            .map(drop)
            .map_err(|error| ShimError::of("resize pty", id, error))
    }

    /// Ends a process's standard input.
    pub async fn close_io(&self, id: &str, exec_id: &str) -> Result<(), ShimError> {
        let mut request = api::CloseIORequest::new();
        request.set_id(id.into());
        request.set_exec_id(exec_id.into());
        request.set_stdin(true);
        self.client.close_io(context(), &request).await.map(drop).map_err(|error| ShimError::of("close io", id, error))
    }

    /// Pids of the container's processes, as the host sees them.
    pub async fn pids(&self, id: &str) -> Result<Vec<u32>, ShimError> {
        let mut request = api::PidsRequest::new();
        request.set_id(id.into());
        let answer = self.client.pids(context(), &request).await.map_err(|error| ShimError::of("pids", id, error))?;
        Ok(answer.processes.iter().map(|process| process.pid).collect())
    }

    /// What the container has used.
    pub async fn stats(&self, id: &str) -> Result<Stats, ShimError> {
        let mut request = api::StatsRequest::new();
        request.set_id(id.into());
        let answer = self.client.stats(context(), &request).await.map_err(|error| ShimError::of("stats", id, error))?;
        let other = |message: String| ShimError::Other { operation: "stats", id: id.into(), message };
        metrics::from_any(answer.stats()).map_err(|error| other(error.to_string()))
    }

    /// New limits for a running container.
    pub async fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), ShimError> {
        let mut request = api::UpdateTaskRequest::new();
        request.set_id(id.into());
        request.set_resources(json(RESOURCES_TYPE, resources));
        request.annotations = HashMap::new();
        self.client.update(context(), &request).await.map(drop).map_err(|error| ShimError::of("update", id, error))
    }

    /// Stops all processes of the container where they are.
    pub async fn pause(&self, id: &str) -> Result<(), ShimError> {
        let mut request = api::PauseRequest::new();
        request.set_id(id.into());
        self.client.pause(context(), &request).await.map(drop).map_err(|error| ShimError::of("pause", id, error))
    }

    /// Undoes [`Shim::pause`].
    pub async fn resume(&self, id: &str) -> Result<(), ShimError> {
        let mut request = api::ResumeRequest::new();
        request.set_id(id.into());
        self.client.resume(context(), &request).await.map(drop).map_err(|error| ShimError::of("resume", id, error))
    }

    /// The front's pid and the task's.
    pub async fn pid_of_front(&self, id: &str) -> Result<u32, ShimError> {
        let mut request = api::ConnectRequest::new();
        request.set_id(id.into());
        let answer = self.client.connect(context(), &request).await;
        answer.map(|answer| answer.shim_pid).map_err(|error| ShimError::of("connect", id, error))
    }

    /// Whether a front is there: one that says it knows no such task is one.
    pub async fn answers(&self) -> bool {
        !matches!(self.state("", "").await, Err(ShimError::Unavailable { .. }))
    }

    /// The front ends if it has no task.
    pub async fn shutdown(&self) -> Result<(), ShimError> {
        let request = api::ShutdownRequest::new();
        match self.client.shutdown(context(), &request).await.map_err(|error| ShimError::of("shutdown", "", error)) {
            // It was quicker to end than to answer.
            Ok(_) | Err(ShimError::Unavailable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl RootMount {
    /// As the task API carries it.
    pub fn to_proto(&self) -> api::Mount {
        let mut mount = api::Mount::new();
        mount.set_type(self.typ.clone());
        mount.set_source(self.source.clone());
        mount.set_options(self.options.clone());
        mount
    }

    /// As the task API carried it.
    pub fn from_proto(mount: &api::Mount) -> Self {
        Self { typ: mount.type_.clone(), source: mount.source.clone(), options: mount.options.clone() }
    }
}

/// Type URL under which containerd sends an exec's process, as JSON.
pub const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// Type URL under which containerd sends new limits, as JSON.
pub const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

fn json<T: serde::Serialize>(type_url: &str, value: &T) -> Any {
    let mut any = Any::new();
    any.type_url = type_url.into();
    // Plain data: serialising it cannot fail.
    any.value = serde_json::to_vec(value).unwrap_or_default();
    any
}

fn context() -> Context {
    with_duration(TIMEOUT)
}

fn nanos(timestamp: &protobuf::MessageField<Timestamp>) -> i64 {
    timestamp.as_ref().map_or(0, |at| at.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(at.nanos)))
}

fn state(answer: &api::StateResponse) -> State {
    let status = match answer.status.enum_value() {
        Ok(api::Status::CREATED) => Status::Created,
        Ok(api::Status::RUNNING) => Status::Running,
        Ok(api::Status::STOPPED) => Status::Stopped,
        Ok(api::Status::PAUSED | api::Status::PAUSING) => Status::Paused,
        Ok(api::Status::UNKNOWN) | Err(_) => Status::Unknown,
    };
    let exit = Exit { pid: answer.pid, code: answer.exit_status, exited_at_nanos: nanos(&answer.exited_at) };
    State {
        bundle: answer.bundle.clone().into(),
        pid: answer.pid,
        status,
        standard: Standard {
            stdin: answer.stdin.clone(),
            stdout: answer.stdout.clone(),
            stderr: answer.stderr.clone(),
            terminal: answer.terminal,
        },
        exit: (status == Status::Stopped).then_some(exit),
    }
}
