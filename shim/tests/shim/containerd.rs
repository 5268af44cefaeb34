//! The shim as containerd calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use containerd_shim_protos::api::{DeleteResponse, Empty, ForwardRequest};
use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::shim_async::{Events, create_events};
use samara_shim_client::{Shim, ShimError};
use ttrpc::r#async::TtrpcContext;

use crate::bundle::Container;
use crate::guests;
use crate::node::{EXE, Node, clean, kill, lives, until};

pub(crate) struct Home(pub(crate) PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        clean(&self.0);
    }
}

/// containerd's end of the events.
#[derive(Default, Clone)]
struct Heard(Arc<Mutex<Vec<String>>>);

#[async_trait::async_trait]
impl Events for Heard {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.clone().unwrap_or_default();
        let event = format!("{} {}", envelope.namespace, envelope.topic);
        self.0.lock().expect("lock").push(event);
        Ok(Empty::new())
    }
}

pub(crate) fn shim(home: &Path, container: &Container, events: &Path, verb: &str) -> Output {
    let output = Command::new(EXE)
        .args([
            "-namespace",
            "test",
            "-address",
            "/run/none.sock",
            "-publish-binary",
            "/bin/none",
            "-id",
            &container.id,
        ])
        .args(["-bundle", &container.dir.display().to_string(), verb])
        .current_dir(&container.dir)
        .env("SAMARA_RUN_DIR", home)
        .env("SAMARA_CODE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("code"))
        .env("TTRPC_ADDRESS", events)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("shim");
    assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test]
async fn containerd_starts_a_front_hears_events_and_deletes_after_its_death() {
    let home = Home(tempfile::Builder::new().prefix("samara-shim-").tempdir().expect("directory").keep());
    let home = home.0.as_path();
    let events = home.join("events.sock");
    let heard = Heard::default();
    let mut server = ttrpc::r#async::Server::new()
        .bind(&format!("unix://{}", events.display()))
        .expect("listen")
        .register_service(create_events(Arc::new(heard.clone())));
    server.start().await.expect("events");

    let mut container = Container::with_root(home, &[("/app", &guests::sleeper())]).args(&["/app"]);
    let stopped = home.join("stopped");
    let hook = serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cat >> {}", stopped.display())]});
    container.config["hooks"] = serde_json::json!({"poststop": [hook]});
    let request = container.request();
    let address = shim(home, &container, &events, "start").stdout;
    let address = String::from_utf8(address).expect("text");
    let socket = Path::new(address.strip_prefix("unix://").expect("an address")).to_path_buf();
    let again = shim(home, &container, &events, "start").stdout;
    assert_eq!(String::from_utf8(again).expect("text"), address, "one front for a group");

    let client = Shim::connect(&socket).await.expect("front");
    client.create(&request).await.expect("created");
    let pid = client.start(&container.id, "").await.expect("started").cast_signed();
    let front = client.pid_of_front(&container.id).await.expect("front").cast_signed();
    let expected = ["test /tasks/create", "test /tasks/start"];
    until("events", || (*heard.0.lock().expect("lock") == expected).then_some(())).await;

    kill(front);
    until("the front is gone", || (!lives(front)).then_some(())).await;
    assert!(lives(pid), "the guest goes on");
    let response = shim(home, &container, &events, "delete").stdout;
    let response = DeleteResponse::parse_from_bytes(&response).expect("response");
    assert_eq!((response.pid, response.exit_status), (pid.cast_unsigned(), 137));
    assert!(!lives(pid));
    assert!(!socket.exists());
    let cgroups = samara_shim_client::cgroup::Cgroups::detect().expect("cgroups");
    let cgroup = cgroups.group(&container.cgroup).expect("path");
    assert!(!cgroup.exists());
    let again = shim(home, &container, &events, "delete").stdout;
    assert_eq!(DeleteResponse::parse_from_bytes(&again).expect("response").exit_status, 137, "twice is as once");
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stopped).expect("the hook was run")).expect("once");
    assert_eq!((&told["id"], &told["status"]), (&container.id.clone().into(), &"stopped".into()));
}

#[tokio::test]
async fn a_container_of_containerds_cannot_have_a_file_of_the_host_for_its_code() {
    let home = Home(tempfile::Builder::new().prefix("samara-shim-").tempdir().expect("directory").keep());
    let home = home.0.as_path();
    let container = Container::new(home, &guests::say(1, "secret", 0));
    let request = container.request();
    let address = shim(home, &container, Path::new(""), "start").stdout;
    let address = String::from_utf8(address).expect("text");
    let client = Shim::connect(Path::new(address.strip_prefix("unix://").expect("an address"))).await.expect("front");
    let error = client.create(&request).await.expect_err("refused");
    assert!(matches!(error, ShimError::InvalidArgument { .. }), "{error}");
    assert!(error.to_string().contains("samara.dev/module is for the node agent's containers only"), "{error}");
    assert!(container.records().is_empty());
}

#[test]
fn it_tells_its_version_and_what_it_is() {
    let output = Command::new(EXE).arg("-v").output().expect("shim");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    let output = Command::new(EXE).arg("-info").stdin(std::process::Stdio::null()).output().expect("shim");
    assert!(output.status.success());
    let output = Command::new(EXE).arg("dance").output().expect("shim");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("dance"));
}

#[tokio::test]
async fn kubernetes_sandbox_container_waits_until_it_is_told() {
    let node = Node::start().await;
    let mut container = Container::with_root(node.home(), &[("/pause", b"\x7fELF")]).args(&["/pause"]);
    container.annotation("io.kubernetes.cri.container-type", Some("sandbox"));
    node.run(&container).await;
    node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
}
