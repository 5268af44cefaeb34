//! containerd's Sandbox API.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use containerd_shim_protos::sandbox_api as api;
use containerd_shim_protos::sandbox_async::SandboxClient;
use samara_shim_client::Shim;
use serde_json::json;
use ttrpc::context::{Context, with_duration};

use crate::bundle::Container;
use crate::containerd::{Home, shim};
use crate::guests;
use crate::node::{SOON, lives, until};

/// A front that containerd started for a sandbox.
struct Pod {
    home: Home,
    id: String,
    socket: PathBuf,
    sandbox: SandboxClient,
}

fn soon() -> Context {
    with_duration(SOON)
}

impl Pod {
    async fn create(netns: &str) -> Self {
        let home = Home(tempfile::Builder::new().prefix("samara-shim-").tempdir().expect("directory").keep());
        let bundle = Container::new(&home.0, b"");
        let address = shim(&home.0, &bundle, Path::new(""), "start").stdout;
        let address = String::from_utf8(address).expect("text");
        let client = ttrpc::r#async::Client::connect(&address).await.expect("front");
        let socket = address.strip_prefix("unix://").expect("an address").into();
        let pod = Self { id: bundle.id, socket, sandbox: SandboxClient::new(client), home };
        let mut request = api::CreateSandboxRequest::new();
        request.sandbox_id = pod.id.clone();
        request.bundle_path = bundle.dir.display().to_string();
        request.netns_path = netns.into();
        pod.sandbox.create_sandbox(soon(), &request).await.expect("created");
        pod
    }

    async fn start(&self) -> i32 {
        let mut request = api::StartSandboxRequest::new();
        request.sandbox_id = self.id.clone();
        let response = self.sandbox.start_sandbox(soon(), &request).await.expect("started");
        assert!(response.created_at.seconds > 0);
        response.pid.cast_signed()
    }

    async fn status(&self) -> api::SandboxStatusResponse {
        let mut request = api::SandboxStatusRequest::new();
        (request.sandbox_id, request.verbose) = (self.id.clone(), true);
        self.sandbox.sandbox_status(soon(), &request).await.expect("status")
    }

    async fn ping(&self) -> bool {
        let mut request = api::PingRequest::new();
        request.sandbox_id = self.id.clone();
        self.sandbox.ping_sandbox(soon(), &request).await.is_ok()
    }

    async fn stop(&self) {
        let mut request = api::StopSandboxRequest::new();
        (request.sandbox_id, request.timeout_secs) = (self.id.clone(), 10);
        self.sandbox.stop_sandbox(soon(), &request).await.expect("stopped");
    }

    async fn shut_down(&self) {
        let mut request = api::ShutdownSandboxRequest::new();
        request.sandbox_id = self.id.clone();
        self.sandbox.shutdown_sandbox(soon(), &request).await.expect("shut down");
    }
}

/// A network namespace that lasts as long as the sender.
fn network() -> (String, mpsc::Sender<()>) {
    let (name, named) = mpsc::channel();
    let (hold, held) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("namespace");
        let thread = nix::unistd::gettid();
        name.send(format!("/proc/{}/task/{thread}/ns/net", std::process::id())).expect("heard");
        // Ends when nobody needs it any more.
        let _ = held.recv();
    });
    (named.recv().expect("a name"), hold)
}

fn namespace(pid: i32, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("lives")
}

#[tokio::test]
async fn a_sandbox_holds_the_pods_namespaces_and_ends_with_its_front() {
    let (netns, _held) = network();
    let pod = Pod::create(&netns).await;
    let pid = pod.start().await;
    let status = pod.status().await;
    assert_eq!((status.state.as_str(), status.pid), ("SANDBOX_READY", pid.cast_unsigned()));
    assert_eq!(namespace(pid, "net"), fs::read_link(&netns).expect("namespace"));
    let own = i32::try_from(std::process::id()).expect("pid");
    for name in ["ipc", "uts", "mnt"] {
        assert_ne!(namespace(pid, name), namespace(own, name), "{name}");
    }

    // As containerd's CRI makes a container in it.
    let mut container = Container::with_root(&pod.home.0, &[("/app", &guests::sleeper())]).args(&["/app"]);
    let joined = ["network", "ipc", "uts"].map(|typ| {
        let file = if typ == "network" { "net" } else { typ };
        json!({"type": typ, "path": format!("/proc/{pid}/ns/{file}")})
    });
    container.config["linux"]["namespaces"] = json!(joined);
    let client = Shim::connect(&pod.socket).await.expect("front");
    client.create(&container.request()).await.expect("created");
    let inside = client.start(&container.id, "").await.expect("started").cast_signed();
    for name in ["net", "ipc", "uts"] {
        assert_eq!(namespace(inside, name), namespace(pid, name), "{name}");
    }
    let mut request = api::SandboxMetricsRequest::new();
    request.sandbox_id = pod.id.clone();
    let metrics = pod.sandbox.sandbox_metrics(soon(), &request).await.expect("metrics");
    assert!(!metrics.metrics.data.value.is_empty(), "{metrics}");
    assert_eq!(metrics.metrics.id, pod.id);

    client.kill(&container.id, "", 9, false).await.expect("killed");
    client.wait(&container.id, "").await.expect("ended");
    client.delete(&container.id, "").await.expect("deleted");
    // containerd says so after each container; the sandbox is still there.
    client.shutdown().await.expect("heard");
    assert!(pod.ping().await);

    let mut request = api::WaitSandboxRequest::new();
    request.sandbox_id = pod.id.clone();
    let waiting = tokio::spawn({
        let sandbox = pod.sandbox.clone();
        async move { sandbox.wait_sandbox(soon(), &request).await }
    });
    pod.stop().await;
    assert_eq!(waiting.await.expect("no panic").expect("waited").exit_status, 143);
    assert!(!lives(pid));
    assert_eq!(pod.status().await.state, "SANDBOX_NOTREADY");
    pod.stop().await;
    pod.shut_down().await;
    until("the front is gone", || (!pod.socket.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_sandbox_that_is_shut_down_alive_is_ended_and_another_is_unknown() {
    let pod = Pod::create("").await;
    let pid = pod.start().await;
    let mut request = api::PingRequest::new();
    request.sandbox_id = "another".into();
    match pod.sandbox.ping_sandbox(soon(), &request).await {
        Err(ttrpc::Error::RpcStatus(status)) => assert_eq!(status.code(), ttrpc::Code::NOT_FOUND),
        other => panic!("{other:?}"),
    }
    let platform = pod.sandbox.platform(soon(), &api::PlatformRequest::new()).await.expect("platform");
    assert_eq!(platform.platform.os, "linux");
    pod.shut_down().await;
    until("all is gone", || (!lives(pid) && !pod.socket.exists()).then_some(())).await;
}
