//! A front that runs nothing: the task service over ttrpc, with ends on cue.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::shim_async::{Task as TaskApi, create_task};
use samara_shim_client::bundle::{Bundle, ExitRecord};
use tokio::sync::watch;
use ttrpc::r#async::{Server, TtrpcContext};
use ttrpc::asynchronous::transport::Listener;

/// What guests do when they are asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnStop {
    End,
    Ignore,
}

/// The scripted front.
#[derive(Clone)]
pub(super) struct FakeFront(Arc<Inner>);

struct Inner {
    tasks: Mutex<BTreeMap<String, Task>>,
    /// `create app`, `start app`, `signal 15 app`, `delete app`, in order.
    calls: watch::Sender<Vec<String>>,
    on_stop: Mutex<OnStop>,
    /// Text with which creates are refused.
    refuse: Mutex<Option<String>>,
}

struct Task {
    bundle: PathBuf,
    end: watch::Sender<Option<u32>>,
}

impl FakeFront {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            tasks: Mutex::default(),
            calls: watch::Sender::default(),
            on_stop: Mutex::new(OnStop::End),
            refuse: Mutex::default(),
        }))
    }

    /// Serves in the directory of a front; the server ends with what is given back.
    pub(super) async fn serve(&self, dir: &Path) -> Server {
        std::fs::create_dir_all(dir).unwrap();
        let socket = dir.join("front.sock");
        drop(std::fs::remove_file(&socket));
        let listener = Listener::try_from(std::os::unix::net::UnixListener::bind(socket).unwrap()).unwrap();
        let mut server = Server::new().register_service(create_task(Arc::new(self.clone()))).add_listener(listener);
        server.start().await.unwrap();
        server
    }

    pub(super) fn calls(&self) -> watch::Receiver<Vec<String>> {
        self.0.calls.subscribe()
    }

    pub(super) fn on_stop(&self, behaviour: OnStop) {
        *self.0.on_stop.lock().unwrap() = behaviour;
    }

    pub(super) fn refuse(&self, text: Option<&str>) {
        *self.0.refuse.lock().unwrap() = text.map(str::to_owned);
    }

    /// Ends the running guest of this container.
    pub(super) fn end(&self, container: &str, code: u32) {
        let tasks = self.0.tasks.lock().unwrap();
        let running = |task: &&Task| name(&task.bundle) == container && task.end.borrow().is_none();
        tasks.values().find(running).expect("a running guest").end(code);
    }

    fn call(&self, what: &str, id: &str) -> ttrpc::Result<()> {
        let tasks = self.0.tasks.lock().unwrap();
        let task = tasks.get(id).ok_or_else(not_found)?;
        self.0.calls.send_modify(|calls| calls.push(format!("{what} {}", name(&task.bundle))));
        Ok(())
    }
}

impl Task {
    fn end(&self, code: u32) {
        let now = jiff::Timestamp::now().as_nanosecond();
        let record = ExitRecord {
            pid: 1,
            exit_code: code,
            oom_killed: false,
            message: None,
            exited_at_nanos: i64::try_from(now).unwrap(),
            seen: true,
        };
        Bundle::new(&self.bundle).write_exit(&record).unwrap();
        self.end.send_replace(Some(code));
    }
}

fn name(bundle: &Path) -> String {
    let name = bundle.file_name().unwrap().to_str().unwrap();
    name.rsplit_once('_').unwrap().0.to_owned()
}

fn not_found() -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(ttrpc::Code::NOT_FOUND, "no such task"))
}

#[async_trait]
impl TaskApi for FakeFront {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        if let Some(text) = self.0.refuse.lock().unwrap().clone() {
            return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(ttrpc::Code::INVALID_ARGUMENT, text)));
        }
        let task = Task { bundle: request.bundle.clone().into(), end: watch::Sender::new(None) };
        assert!(task.bundle.join("config.json").exists(), "the bundle is whole before the front is asked");
        self.0.tasks.lock().unwrap().insert(request.id.clone(), task);
        self.call("create", &request.id)?;
        Ok(api::CreateTaskResponse::new())
    }

    async fn start(&self, _: &TtrpcContext, request: api::StartRequest) -> ttrpc::Result<api::StartResponse> {
        self.call("start", &request.id)?;
        Ok(api::StartResponse::new())
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<api::Empty> {
        self.call(&format!("signal {}", request.signal), &request.id)?;
        let tasks = self.0.tasks.lock().unwrap();
        let task = tasks.get(&request.id).ok_or_else(not_found)?;
        if request.signal == 9 || *self.0.on_stop.lock().unwrap() == OnStop::End {
            task.end(128 + request.signal);
        }
        Ok(api::Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        let mut end = self.0.tasks.lock().unwrap().get(&request.id).ok_or_else(not_found)?.end.subscribe();
        let code = end.wait_for(Option::is_some).await.map(|code| code.unwrap_or(255));
        let mut response = api::WaitResponse::new();
        response.set_exit_status(code.unwrap_or(255));
        Ok(response)
    }

    async fn delete(&self, _: &TtrpcContext, request: api::DeleteRequest) -> ttrpc::Result<api::DeleteResponse> {
        self.call("delete", &request.id)?;
        self.0.tasks.lock().unwrap().remove(&request.id);
        Ok(api::DeleteResponse::new())
    }

    async fn state(&self, _: &TtrpcContext, request: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        let tasks = self.0.tasks.lock().unwrap();
        let task = tasks.get(&request.id).ok_or_else(not_found)?;
        let mut response = api::StateResponse::new();
        let status = if task.end.borrow().is_some() { api::Status::STOPPED } else { api::Status::RUNNING };
        response.status = status.into();
        Ok(response)
    }
}
