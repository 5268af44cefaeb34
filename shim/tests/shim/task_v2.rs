//! The task API under its older name, as containerd 1.7 calls it: the messages are the same.

use std::path::{Path, PathBuf};

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::{Message, MessageField};
use samara_shim_client::client::PROCESS_TYPE;
use serde_json::json;
use ttrpc::r#async::Client;

use crate::bundle::Container;
use crate::containerd::{Home, shim};
use crate::guests;
use crate::node::{lives, until};

struct TaskV2(Client);

impl TaskV2 {
    async fn connect(socket: &Path) -> Self {
        Self(Client::connect(&format!("unix://{}", socket.display())).await.expect("front"))
    }

    async fn try_call<A: Message>(&self, method: &str, request: &impl Message) -> ttrpc::Result<A> {
        let request = ttrpc::proto::Request {
            service: "containerd.task.v2.Task".into(),
            method: method.into(),
            payload: request.write_to_bytes().expect("bytes"),
            ..ttrpc::proto::Request::default()
        };
        let answer = self.0.request(request).await?;
        Ok(A::parse_from_bytes(&answer.payload).expect("the method's answer"))
    }

    async fn call<A: Message>(&self, method: &str, request: &impl Message) -> A {
        self.try_call(method, request).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn status(&self, id: &str, exec_id: &str) -> api::Status {
        let request = api::StateRequest { id: id.into(), exec_id: exec_id.into(), ..api::StateRequest::default() };
        let state: api::StateResponse = self.call("State", &request).await;
        state.status.enum_value().expect("known")
    }

    async fn start(&self, id: &str, exec_id: &str) -> u32 {
        let request = api::StartRequest { id: id.into(), exec_id: exec_id.into(), ..api::StartRequest::default() };
        self.call::<api::StartResponse>("Start", &request).await.pid
    }

    async fn wait(&self, id: &str, exec_id: &str) -> u32 {
        let request = api::WaitRequest { id: id.into(), exec_id: exec_id.into(), ..api::WaitRequest::default() };
        self.call::<api::WaitResponse>("Wait", &request).await.exit_status
    }

    async fn delete(&self, id: &str, exec_id: &str) -> u32 {
        let request = api::DeleteRequest { id: id.into(), exec_id: exec_id.into(), ..api::DeleteRequest::default() };
        self.call::<api::DeleteResponse>("Delete", &request).await.exit_status
    }

    async fn exec(&self, id: &str, exec_id: &str, program: &str) {
        let process = json!({"args": [program], "cwd": "/", "user": {"uid": 0, "gid": 0}}).to_string();
        let spec = containerd_shim_protos::protobuf::well_known_types::any::Any {
            type_url: PROCESS_TYPE.into(),
            value: process.into(),
            ..Default::default()
        };
        let request = api::ExecProcessRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            spec: MessageField::some(spec),
            ..api::ExecProcessRequest::default()
        };
        self.call::<api::Empty>("Exec", &request).await;
    }
}

/// A front as containerd starts it, for a container of a sleeper and a program that exits with 9.
async fn front() -> (Home, Container, PathBuf, TaskV2) {
    let home = Home(tempfile::Builder::new().prefix("samara-shim-").tempdir().expect("directory").keep());
    let (app, say) = (guests::sleeper(), guests::say(1, "from exec\n", 9));
    let container = Container::with_root(&home.0, &[("/app", &app), ("/say", &say)]).args(&["/app"]);
    let address = String::from_utf8(shim(&home.0, &container, Path::new(""), "start").stdout).expect("text");
    let socket = PathBuf::from(address.strip_prefix("unix://").expect("an address"));
    let tasks = TaskV2::connect(&socket).await;
    (home, container, socket, tasks)
}

fn create(container: &Container) -> api::CreateTaskRequest {
    let request = container.request();
    api::CreateTaskRequest {
        id: request.id,
        bundle: request.bundle.display().to_string(),
        rootfs: request.rootfs.iter().map(samara_shim_client::RootMount::to_proto).collect(),
        ..api::CreateTaskRequest::default()
    }
}

#[tokio::test]
async fn a_whole_life_over_the_older_name_of_the_task_service() {
    let (_home, container, socket, tasks) = front().await;
    let id = container.id.as_str();
    let created: api::CreateTaskResponse = tasks.call("Create", &create(&container)).await;
    assert_eq!(tasks.status(id, "").await, api::Status::CREATED);
    assert_eq!(tasks.start(id, "").await, created.pid);
    assert_eq!(tasks.status(id, "").await, api::Status::RUNNING);

    tasks.exec(id, "e1", "/say").await;
    assert_eq!(tasks.status(id, "e1").await, api::Status::CREATED);
    tasks.start(id, "e1").await;
    assert_eq!(tasks.wait(id, "e1").await, 9);
    assert_eq!(tasks.delete(id, "e1").await, 9);

    let shutdown = api::ShutdownRequest { id: id.into(), ..api::ShutdownRequest::default() };
    tasks.call::<api::Empty>("Shutdown", &shutdown).await;
    assert_eq!(tasks.status(id, "").await, api::Status::RUNNING, "a front with a task does not end");
    let kill = api::KillRequest { id: id.into(), signal: 15, ..api::KillRequest::default() };
    tasks.call::<api::Empty>("Kill", &kill).await;
    assert_eq!(tasks.wait(id, "").await, 143);
    assert_eq!(tasks.status(id, "").await, api::Status::STOPPED);
    assert_eq!(tasks.delete(id, "").await, 143);
    let gone: ttrpc::Result<api::StateResponse> =
        tasks.try_call("State", &api::StateRequest { id: id.into(), ..api::StateRequest::default() }).await;
    match gone {
        Err(ttrpc::Error::RpcStatus(status)) => assert_eq!(status.code(), ttrpc::Code::NOT_FOUND, "{status:?}"),
        other => panic!("{other:?}"),
    }
    // It may be quicker to end than to answer.
    let _: ttrpc::Result<api::Empty> = tasks.try_call("Shutdown", &shutdown).await;
    until("the front has ended", || (!socket.exists()).then_some(())).await;
}

#[tokio::test]
async fn kill_of_all_ends_the_execs_too() {
    let (_home, container, _socket, tasks) = front().await;
    let id = container.id.as_str();
    tasks.call::<api::CreateTaskResponse>("Create", &create(&container)).await;
    let pid = tasks.start(id, "").await;
    tasks.exec(id, "e1", "/app").await;
    let exec = tasks.start(id, "e1").await;
    let kill = |signal, all| api::KillRequest { id: id.into(), signal, all, ..api::KillRequest::default() };
    tasks.call::<api::Empty>("Kill", &kill(0, true)).await;
    assert!(lives(pid.cast_signed()) && lives(exec.cast_signed()), "signal 0 asks only");
    tasks.call::<api::Empty>("Kill", &kill(15, true)).await;
    assert_eq!((tasks.wait(id, "e1").await, tasks.wait(id, "").await), (143, 143));
    assert_eq!((tasks.delete(id, "e1").await, tasks.delete(id, "").await), (143, 143));
}

#[tokio::test]
async fn a_checkpoint_is_refused_by_name_and_nothing_is_made() {
    let (_home, container, _socket, tasks) = front().await;
    let request = api::CreateTaskRequest { checkpoint: "/some/where".into(), ..create(&container) };
    let checkpoint = api::CheckpointTaskRequest { id: container.id.clone(), ..api::CheckpointTaskRequest::default() };
    let refused: [ttrpc::Result<api::Empty>; 2] =
        [tasks.try_call("Create", &request).await, tasks.try_call("Checkpoint", &checkpoint).await];
    for refused in refused {
        match refused {
            Err(ttrpc::Error::RpcStatus(status)) => {
                assert_eq!(status.code(), ttrpc::Code::UNIMPLEMENTED, "{status:?}");
                assert!(status.message.contains("a checkpoint"), "{status:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(container.bundle().task_record().expect("readable"), None);
    tasks.call::<api::CreateTaskResponse>("Create", &create(&container)).await;
}
