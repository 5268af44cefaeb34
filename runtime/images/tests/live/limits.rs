//! Registries behind a real proxy, haproxy, that lets only so many requests through and says when to come back, as Docker Hub does.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use samara_images::{Credential, Reference, RegistryConfig, Retry};
use serde_json::json;
use tempfile::TempDir;

use crate::registry::Registry;
use crate::{MODULE, Node, module};

/// haproxy in front of a registry; it ends with this.
struct Gate {
    process: Child,
    address: String,
    directory: TempDir,
}

/// Every other request is one too many.
const EVERY_OTHER: &str = "sc0_inc_gpc0,mod(2) eq 0";
/// All but the first of an hour are too many.
const ONE_AN_HOUR: &str = "sc_http_req_rate(0) gt 1";

impl Gate {
    /// Sends requests away for so many seconds if this holds, by its own rules for conditions.
    fn before(registry: &Registry, too_many: &str, retry_after: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (errors, origin) = (directory.path().join("errors.json"), registry.address());
        let said =
            json!({"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}]});
        std::fs::write(&errors, said.to_string()).unwrap();
        let config = format!(
            "defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    log stdout format raw local0
    log-format \"%ST %HP\"
frontend gate
    bind fd@0
    stick-table type integer size 1 store gpc0,http_req_rate(1h)
    http-request track-sc0 int(1)
    http-request return status 429 content-type application/json hdr Retry-After {retry_after} file {} if {{ {too_many} }}
    default_backend registry
backend registry
    server origin {origin}
",
            errors.display()
        );
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let log = |name: &str| File::create(directory.path().join(name)).unwrap();
        // It is given the socket itself, so that the port is nobody else's.
        let mut command = Command::new("haproxy");
        command
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(OwnedFd::from(listener))
            .stdout(log("log"))
            .stderr(log("complaints"));
        let process = command.spawn().unwrap_or_else(|error| panic!("haproxy: {error}; `make setup` installs it"));
        Self { process, address, directory }
    }

    fn image(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.address)).unwrap()
    }

    /// How many requests it answered with this status, once there are so many: it writes them down a moment later.
    async fn answered(&mut self, status: u16, at_least: usize) -> usize {
        let began = Instant::now();
        let read = |name: &str| std::fs::read_to_string(self.directory.path().join(name)).unwrap();
        loop {
            let log = read("log");
            let count = log.lines().filter(|line| line.starts_with(&format!("{status} /v2/"))).count();
            if count >= at_least {
                return count;
            }
            assert_eq!(self.process.try_wait().unwrap(), None, "haproxy ended: {}", read("complaints"));
            assert!(began.elapsed() < Duration::from_secs(20), "{status} was answered {count} times:\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn what_a_limit_holds_up_for_a_moment_is_pulled_all_the_same() {
    let registry = Registry::start();
    registry.push("team/app:v1", &module(100_000), &Credential::Anonymous).await;
    let mut gate = Gate::before(&registry, EVERY_OTHER, 1);
    let image = Node::new().puller.pull(&gate.image("team/app:v1"), &[], &()).await.unwrap();
    assert_eq!(image.reference, gate.image("team/app:v1"));
    assert_eq!(gate.answered(200, 3).await, 3, "manifest, configuration, module");
    assert_eq!(gate.answered(429, 2).await, 2, "between them");
}

#[tokio::test]
async fn who_has_reached_the_limit_is_told_when_to_come_back() {
    let registry = Registry::start();
    registry.push("team/app:v1", MODULE, &Credential::Anonymous).await;
    let mut gate = Gate::before(&registry, ONE_AN_HOUR, 21_600);
    let node = Node::trusting(RegistryConfig::default());
    let error = node.puller.pull(&gate.image("team/app:v1"), &[], &()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later(Some(Duration::from_secs(21_600))));
    let text = error.to_string();
    assert!(text.contains("You have reached your pull rate limit."), "{text}");
    assert!(text.ends_with("it says to come back in 21600 s"), "{text}");
    assert_eq!(gate.answered(429, 1).await, 1, "who is sent away for hours is not asked again");
}
