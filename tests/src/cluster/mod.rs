//! A real control plane: etcd, API server, controllers, scheduler, and a registry, in the site's namespace.

pub mod addresses;
mod approver;
pub(crate) mod bootstrap;
pub mod pki;
mod programs;
mod routes;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::task::JoinSet;

use crate::kubectl::Kubectl;
use crate::site::Site;
use crate::site::process::{Process, ProcessId};
use crate::wait::{Seen, until};
use addresses::{CONTROL_PLANE, KUBERNETES_SERVICE, PREFIX};
use pki::{Identity, Pki};
use programs::Layout;

pub use approver::UNAPPROVED;

/// Programs it needs in the tools' directory.
pub const TOOLS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "registry"];

/// How long anything of it may take to start, on a slow and busy machine.
const START: Duration = Duration::from_secs(120);

/// What a user of it may want otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the programs.
    pub tools: PathBuf,
    /// Size of each node's pod network: 24 for 254 pods, 20 for 1,000.
    pub node_cidr_mask_size: u8,
}

impl Options {
    /// The programs which `make tools` builds, and a /24 for each node.
    pub fn new() -> Self {
        Self { tools: tools_dir(), node_cidr_mask_size: 24 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// `target/tools`, or what `SAMARA_TOOLS` says.
pub fn tools_dir() -> PathBuf {
    std::env::var_os("SAMARA_TOOLS").map_or_else(|| workspace().join("target/tools"), PathBuf::from)
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A control plane that is up. It ends with its site.
pub struct Cluster {
    site: Site,
    pki: Pki,
    client: Client,
    kubectl: Kubectl,
    processes: Mutex<Vec<Process>>,
    tasks: JoinSet<()>,
}

impl Cluster {
    /// Starts it, and returns when a pod could be created.
    pub async fn up(site: Site, options: &Options) -> Result<Self> {
        let data = site.data_dir();
        let pki = keys(&data.join("pki"))?;
        let layout = Layout { tools: &options.tools, data: &data, pki: &pki };
        make_bridge(&site)?;
        site.mount_tmpfs(&data.join("etcd"), 1024)?;

        let here = site.namespace();
        let mut processes = vec![
            site.start(here, layout.etcd())?,
            site.start(here, layout.api_server())?,
            site.start(here, layout.registry()?)?,
        ];
        let admin = pki.kubeconfig("admin.conf", Identity { user: "admin", group: Some("system:masters") })?;
        let client = client(&admin).await?;
        until("the API server is live", START, async || alive(&mut processes, &client, "/livez").await).await?;
        processes.push(site.start(here, layout.controller_manager(options))?);
        processes.push(site.start(here, layout.scheduler())?);
        until("the API server is ready", START, async || alive(&mut processes, &client, "/readyz").await).await?;

        let kubectl = Kubectl::new(options.tools.join("kubectl"), admin, &data);
        kubectl.input(&["create", "-f", "-"], &bootstrap::objects()?).await?;
        kubectl.run(&["create", "-f", &workspace().join("deploy").to_string_lossy()]).await?;
        let accounts = Api::<ServiceAccount>::default_namespaced(client.clone());
        until("the controllers have made the default service account", START, async || {
            check(&mut processes)?;
            Ok(Seen::some(accounts.get_opt("default").await?, "no service account yet"))
        })
        .await?;
        until("the registry answers", START, async || {
            check(&mut processes)?;
            let answer = reqwest::get(format!("http://{}/v2/", addresses::registry())).await;
            Ok(Seen::when(answer.as_ref().is_ok_and(|answer| answer.status().is_success()), format!("{answer:?}")))
        })
        .await?;

        let mut tasks = JoinSet::new();
        tasks.spawn(routes::follow_nodes(client.clone(), site.namespace().clone()));
        tasks.spawn(approver::approve_serving_certificates(client.clone()));
        Ok(Self { site, pki, client, kubectl, processes: Mutex::new(processes), tasks })
    }

    /// Its place on the machine.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its authority.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// As cluster administrator.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `kubectl` as cluster administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// An error if any of its programs has ended.
    pub fn check(&self) -> Result<()> {
        check(&mut self.processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Its programs' processes.
    pub fn processes(&self) -> Vec<ProcessId> {
        let processes = self.processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        processes.iter().map(Process::id).collect()
    }

    /// Its logs.
    pub fn logs(&self) -> PathBuf {
        self.site.data_dir().join("logs")
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("site", &self.site).finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// A client of this kubeconfig.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn keys(dir: &Path) -> Result<Pki> {
    let pki = Pki::make(dir)?;
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let ips = [CONTROL_PLANE, KUBERNETES_SERVICE, Ipv4Addr::LOCALHOST].map(IpAddr::from);
    pki.server("kube-apiserver", &names, &ips)?;
    pki.client_files(
        "kubelet-client",
        Identity { user: "kube-apiserver-kubelet-client", group: Some("system:masters") },
    )?;
    for program in ["kube-controller-manager", "kube-scheduler"] {
        pki.kubeconfig(&format!("{program}.conf"), Identity { user: &format!("system:{program}"), group: None })?;
    }
    Ok(pki)
}

/// The bridge to which nodes are plugged; the `kubernetes` Service's address stands beside its own.
fn make_bridge(site: &Site) -> Result<()> {
    site.namespace().ip(&format!(
        "link add br0 type bridge\n\
         link set br0 up\n\
         addr add {CONTROL_PLANE}/{PREFIX} dev br0\n\
         addr add {KUBERNETES_SERVICE}/32 dev lo\n"
    ))
}

fn check(processes: &mut [Process]) -> Result<()> {
    processes.iter_mut().try_for_each(Process::check)
}

async fn alive(processes: &mut [Process], client: &Client, path: &str) -> Result<Seen<()>> {
    check(processes)?;
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(match client.request_text(request).await {
        Ok(_) => Seen::Yes(()),
        Err(error) => Seen::NotYet(error.to_string()),
    })
}
