//! A node under test: a namespace plugged into the cluster, directories of its own, and the agent in it.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::Api;
use serde_json::{Value, json};

use crate::cluster::addresses::{self, CONTROL_PLANE, PREFIX, REGISTRY_PORT};
use crate::cluster::pki::Identity;
use crate::cluster::{Cluster, bootstrap};
use crate::forward;
use crate::site::cgroup;
use crate::site::namespace::Namespace;
use crate::site::process::{Process, ProcessId, Program};
use crate::wait::{Seen, until};

/// The taint which every Samara node has.
const WASM_TAINT: (&str, &str) = ("kubernetes.io/arch", "wasm32");
/// The taint of a node which one test has for itself.
pub const RESERVED_TAINT: &str = "samara.dev/reserved";

/// How a node gets its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// A kubeconfig with a client certificate.
    Kubeconfig,
    /// A bootstrap token; client and serving certificate are asked for.
    Bootstrap,
}

/// Who may be scheduled to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Every Wasm pod.
    Everyone,
    /// Pods that tolerate [`RESERVED_TAINT`] with the node's name.
    OneTest,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// How it joins.
    pub join: Join,
    /// Who may use it.
    pub whom: For,
    /// Fields of its `KubeletConfiguration` beyond the harness's own.
    pub config: Value,
    /// Flags beyond the harness's own.
    pub flags: Vec<OsString>,
    /// Its program, if not the one under test as it was built.
    pub program: Option<PathBuf>,
}

impl Options {
    /// A node for everyone that joins by kubeconfig.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            join: Join::Kubeconfig,
            whom: For::Everyone,
            config: json!({}),
            flags: Vec::new(),
            program: None,
        }
    }
}

/// A node. Its processes end with the site.
#[derive(Debug)]
pub struct Node {
    name: String,
    ip: Ipv4Addr,
    namespace: Namespace,
    home: Home,
    program: Program,
    agent: Mutex<Option<Process>>,
}

/// Its directories.
#[derive(Debug, Clone)]
struct Home {
    root: PathBuf,
    run: PathBuf,
    logs: PathBuf,
    agent_log: PathBuf,
}

impl Node {
    /// Plugs it in and starts its agent. Returns when the agent runs, not when the node is Ready.
    pub async fn start(cluster: &Cluster, options: &Options) -> Result<Self> {
        let site = cluster.site();
        let name = &options.name;
        let ip = addresses::node(next_index());
        let namespace = site.make_namespace(name)?;
        plug_in(site.namespace(), &namespace, ip)?;
        let registry = SocketAddr::from((CONTROL_PLANE, REGISTRY_PORT));
        forward::start(
            site,
            &namespace,
            SocketAddr::from((Ipv4Addr::LOCALHOST, REGISTRY_PORT)),
            site.namespace(),
            registry,
        )
        .await?;

        let dir = site.data_dir().join(name);
        let home = Home {
            root: dir.join("root"),
            run: site.run_dir().join(name),
            logs: dir.join("log/pods"),
            agent_log: site.data_dir().join("logs").join(format!("{name}.log")),
        };
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let config = dir.join("kubelet.yaml");
        fs::write(&config, serde_yaml_ng::to_string(&kubelet_configuration(cluster, options))?)?;
        let file = options.program.clone().unwrap_or_else(samara);
        let program = Program::new(format!("the agent of {name}"), file, &home.agent_log)
            .arg("node")
            .args([if options.join == Join::Bootstrap { "--bootstrap-kubeconfig" } else { "--kubeconfig" }])
            .arg(identity(cluster, options)?)
            .arg("--config")
            .arg(&config)
            .args(["--node-name", name, "--node-ip", &ip.to_string()])
            .arg("--root-dir")
            .arg(&home.root)
            .arg("--run-dir")
            .arg(&home.run)
            .arg("--log-dir")
            .arg(&home.logs)
            .arg("--trace-starts")
            .arg(dir.join("starts.json"))
            .args(&options.flags)
            .env("RUST_BACKTRACE", "1")
            .env(
                "RUST_LOG",
                std::env::var("SAMARA_NODE_LOG")
                    .unwrap_or_else(|_| "info,samara=debug,samara_agent=debug,samara_shim=debug".into()),
            )
            .cgroup(cgroup::make_for_agent(&site.cgroup(), &format!("{name}-agent"))?);
        let agent = site.start(&namespace, program.clone())?;
        Ok(Self { name: name.clone(), ip, namespace, home, program, agent: Mutex::new(Some(agent)) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The agent's arguments, from `node` on.
    pub fn command_line(&self) -> &[OsString] {
        self.program.arguments()
    }

    /// `--root-dir`.
    pub fn root_dir(&self) -> &Path {
        &self.home.root
    }

    /// `--run-dir`.
    pub fn run_dir(&self) -> &Path {
        &self.home.run
    }

    /// `--log-dir`: its pods' logs.
    pub fn logs_dir(&self) -> &Path {
        &self.home.logs
    }

    /// Where the time of each pod's start went: see `samara_agent::starts`.
    pub fn starts(&self) -> PathBuf {
        self.home.root.with_file_name("starts.json")
    }

    /// What its agent says.
    pub fn agent_log(&self) -> &Path {
        &self.home.agent_log
    }

    /// The certificate, in DER, that a new connection to its API sees, whoever signed it.
    pub async fn shown_certificate(&self) -> Result<Vec<u8>> {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).tls_info(true).build()?;
        let answer = client.get(format!("https://{}:10250/healthz", self.ip)).send().await?;
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().context("no TLS")?;
        Ok(info.peer_certificate().context("no certificate")?.to_vec())
    }

    /// Waits until the control plane calls it Ready.
    pub async fn ready(&self, cluster: &Cluster) -> Result<ApiNode> {
        let nodes = Api::<ApiNode>::all(cluster.client().clone());
        until(format!("node {} is Ready", self.name), Duration::from_secs(60), async || {
            self.check()?;
            let Some(node) = nodes.get_opt(&self.name).await? else { return Ok(Seen::NotYet("not registered".into())) };
            let ready = condition(&node, "Ready").map(|(status, message)| (status == "True", message.to_owned()));
            Ok(match ready {
                Some((true, _)) => Seen::Yes(node),
                Some((false, message)) => Seen::NotYet(message),
                None => Seen::NotYet("no Ready condition".into()),
            })
        })
        .await
    }

    /// The agent's process; none between a kill and the next start.
    pub fn agent(&self) -> Option<ProcessId> {
        self.lock().as_ref().map(Process::id)
    }

    /// An error with the end of its log if the agent has ended by itself.
    pub fn check(&self) -> Result<()> {
        self.lock().as_mut().map_or(Ok(()), Process::check)
    }

    /// SIGKILL.
    pub fn kill_agent(&self) -> Result<()> {
        self.lock().take().map_or(Ok(()), |mut agent| agent.kill().map(drop))
    }

    /// SIGTERM, and waits for the end.
    pub fn stop_agent(&self, limit: Duration) -> Result<Option<ExitStatus>> {
        self.lock().take().map(|mut agent| agent.stop(limit)).transpose()
    }

    /// Starts the agent again, as before.
    pub fn start_agent(&self, cluster: &Cluster) -> Result<()> {
        let agent = cluster.site().start(&self.namespace, self.program.clone())?;
        *self.lock() = Some(agent);
        Ok(())
    }

    /// Pulls the cable: the node reaches nobody, and nobody the node.
    pub fn unplug(&self, cluster: &Cluster) -> Result<()> {
        cluster.site().namespace().ip(&format!("link set {} down\n", port(self.ip)))
    }

    /// Puts it back.
    pub fn plug_back(&self, cluster: &Cluster) -> Result<()> {
        cluster.site().namespace().ip(&format!("link set {} up\n", port(self.ip)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.agent.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Status and message of a node's condition.
pub fn condition<'a>(node: &'a ApiNode, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

/// The program under test: `SAMARA_BIN`, else beside this program's own directory.
pub fn samara() -> PathBuf {
    if let Some(file) = std::env::var_os("SAMARA_BIN") {
        return file.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("samara")).find(|file| file.exists());
    beside.unwrap_or_else(|| "samara".into())
}

fn next_index() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The node's port of the bridge.
fn port(ip: Ipv4Addr) -> String {
    let [.., high, low] = ip.octets();
    format!("node{high}-{low}")
}

/// A cable from the node's `eth0` to the bridge.
fn plug_in(control_plane: &Namespace, node: &Namespace, ip: Ipv4Addr) -> Result<()> {
    let port = port(ip);
    control_plane.ip(&format!(
        "link add {port} type veth peer name eth0 netns {node}\n\
         link set {port} master br0\n\
         link set {port} up\n",
        node = node.name(),
    ))?;
    node.ip(&format!("addr add {ip}/{PREFIX} dev eth0\nlink set eth0 up\nroute add default via {CONTROL_PLANE}\n"))
}

fn identity(cluster: &Cluster, options: &Options) -> Result<PathBuf> {
    let user = format!("system:node:{}", options.name);
    let file = format!("{}.conf", options.name);
    match options.join {
        Join::Kubeconfig => cluster.pki().kubeconfig(&file, Identity { user: &user, group: Some("system:nodes") }),
        Join::Bootstrap => {
            let (id, secret) = bootstrap::TOKEN;
            let text =
                cluster.pki().config_text(&addresses::api_server(), &json!({ "token": format!("{id}.{secret}") }))?;
            cluster.pki().write(&file, &text)?;
            Ok(cluster.pki().path(&file))
        }
    }
}

fn kubelet_configuration(cluster: &Cluster, options: &Options) -> Value {
    let mut taints = vec![json!({ "key": WASM_TAINT.0, "value": WASM_TAINT.1, "effect": "NoSchedule" })];
    if options.whom == For::OneTest {
        taints.push(json!({ "key": RESERVED_TAINT, "value": options.name, "effect": "NoSchedule" }));
    }
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupRoot": format!("/{}/{}", cluster.site().cgroup(), options.name),
        "registerWithTaints": taints,
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "serverTLSBootstrap": true,
        // A full disk of the machine that tests is not the node's business.
        "evictionHard": { "memory.available": "100Mi" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "authentication": { "x509": { "clientCAFile": cluster.pki().path("ca.crt") } },
    });
    if let (Some(base), Value::Object(more)) = (config.as_object_mut(), options.config.clone()) {
        base.extend(more);
    }
    config
}
