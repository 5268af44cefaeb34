//! Registries behind a real proxy, tinyproxy, which the environment names.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::machine::{Machine, p1};
use crate::registry::{PASSWORD, Registry, USER};

/// It ends with this.
struct Proxy {
    process: Child,
    address: String,
    dir: tempfile::TempDir,
}

/// It wants to be told a port: one of an address of this machine which is nobody else's.
const PORT: u16 = 8888;

impl Proxy {
    fn start() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let own = std::process::id() as u16 ^ NEXT.fetch_add(1, Ordering::Relaxed).rotate_right(4);
        let [high, low] = own.to_be_bytes();
        let host = format!("127.200.{high}.{low}");
        let dir = tempfile::tempdir().unwrap();
        let (config, log) = (dir.path().join("config"), dir.path().join("log"));
        let text = format!("Listen {host}\nPort {PORT}\nLogFile \"{}\"\nLogLevel Connect\nTimeout 60\n", log.display());
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| panic!("tinyproxy: {error}; `make setup` installs it"));
        let mut proxy = Self { process, address: format!("{host}:{PORT}"), dir };
        let began = Instant::now();
        while TcpStream::connect(&proxy.address).is_err() {
            assert_eq!(proxy.process.try_wait().unwrap(), None, "tinyproxy ended: {}", proxy.log());
            assert!(began.elapsed() < Duration::from_secs(20), "tinyproxy does not listen: {}", proxy.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        proxy
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// How many requests it was sent with this in their first line. It writes a request down before it carries it out.
    fn asked(&self, what: &str) -> usize {
        self.log().lines().filter(|line| line.contains("Request (") && line.contains(what)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// By this address, a registry of this machine is not known to be one.
fn elsewhere(registry: &Registry) -> String {
    format!("0.0.0.0:{}", registry.port())
}

/// What docker would have kept for both of its addresses.
fn logged_in(machine: &Machine, registry: &Registry) {
    let auth = json!({ "auth": STANDARD.encode(format!("{USER}:{PASSWORD}")) });
    let auths = json!({ "auths": { elsewhere(registry): auth, registry.host(): auth } });
    std::fs::create_dir_all(machine.path("docker")).unwrap();
    std::fs::write(machine.path("docker/config.json"), auths.to_string()).unwrap();
}

/// Runs a verb with these variables and no others of their kind, and gives its standard output, or what it complains of.
fn samara(machine: &Machine, proxies: &[(&str, &str)], args: &[&str]) -> Result<String, String> {
    let mut command = machine.command(args);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let said = command.envs(proxies.iter().copied()).output().unwrap();
    match said.status.success() {
        true => Ok(String::from_utf8(said.stdout).unwrap()),
        false => Err(String::from_utf8(said.stderr).unwrap()),
    }
}

/// An address at which nobody listens.
const NOWHERE: &str = "http://127.200.0.0:1";

#[test]
fn a_registry_without_tls_is_asked_through_the_proxy_that_the_environment_names() {
    let (machine, registry, proxy) = (Machine::new(), Registry::start(), Proxy::start());
    logged_in(&machine, &registry);
    let (there, url) = (elsewhere(&registry), proxy.url());
    let name = format!("{there}/team/hello:v1");
    let through = [("HTTP_PROXY", url.as_str())];
    let plain = ["--plain-registry", &there];
    let pushed = samara(&machine, &through, &[&["push"], &plain[..], &[&p1("hello"), &name]].concat()).unwrap();
    let pull = [&["pull", "-q"], &plain[..], &[&name]].concat();
    assert_eq!(samara(&machine, &through, &pull).unwrap(), pushed);
    for what in [format!("PUT http://{there}/v2/team/hello/"), format!("HEAD http://{there}/v2/team/hello/")] {
        assert_ne!(proxy.asked(&what), 0, "{what}: {}", proxy.log());
    }
    // Not through one that is away, unless it is not for this registry.
    let away = ("http_proxy", NOWHERE);
    let error = samara(&machine, &[away], &pull).unwrap_err();
    assert!(error.contains("cannot be reached"), "{error}");
    assert_eq!(samara(&machine, &[away, ("NO_PROXY", "other.test,0.0.0.0")], &pull).unwrap(), pushed);
    // Never for this machine.
    let own = registry.image("team/hello:v1");
    assert!(samara(&machine, &[away], &["pull", "-q", &own]).unwrap().starts_with(registry.host()));
}

#[test]
fn a_registry_with_tls_is_reached_through_a_tunnel() {
    let (machine, registry, proxy) = (Machine::new(), Registry::secure(), Proxy::start());
    logged_in(&machine, &registry);
    let (there, url) = (elsewhere(&registry), proxy.url());
    let name = format!("{there}/team/hello:v1");
    let hosts = machine.path("certs.d").join(&there);
    std::fs::create_dir_all(&hosts).unwrap();
    // Docker's way: what is in the directory counts by its name.
    for file in ["ca.crt", "client.cert", "client.key"] {
        std::fs::copy(registry.files().join(file), hosts.join(file)).unwrap();
    }
    let set = ["--registry-config-dir", "certs.d"];
    let through = [("HTTPS_PROXY", url.as_str()), ("HTTP_PROXY", NOWHERE)];
    let pushed = samara(&machine, &through, &[&["push"], &set[..], &[&p1("hello"), &name]].concat()).unwrap();
    let before = proxy.asked(&format!("CONNECT {there} "));
    assert_ne!(before, 0, "{}", proxy.log());
    let pull = [&["pull", "-q"], &set[..], &[&name]].concat();
    assert_eq!(samara(&machine, &through, &pull).unwrap(), pushed);
    assert!(proxy.asked(&format!("CONNECT {there} ")) > before, "{}", proxy.log());
    let error = samara(&machine, &[("HTTPS_PROXY", NOWHERE)], &pull).unwrap_err();
    assert!(error.contains("cannot be reached"), "{error}");
    assert_eq!(samara(&machine, &[("HTTPS_PROXY", NOWHERE), ("NO_PROXY", "0.0.0.0")], &pull).unwrap(), pushed);
}
