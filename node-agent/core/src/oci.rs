//! The OCI runtime spec of one attempt (kubelet: `kuberuntime_container.go` `generateContainerConfig`; containerd's CRI
//! plugin for what the kubelet leaves to it).
//!
//! What the spec has no field for are the annotations of [`samara_shim_client::annotations`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use oci_spec::runtime::{
    Linux, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, Process, Root, Spec,
};
use samara_shim_client::annotations;

use crate::env::{self, Environment};
use crate::pod::is_host_network;
use crate::resources;

mod capabilities;
mod identity;

pub use capabilities::{UnknownCapability, capabilities};

/// Everything that becomes the spec.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub attempt: u32,
    pub image: &'a ImageConfig,
    pub environment: &'a Environment,
    /// Volumes and files, in the order in which they are mounted.
    pub mounts: &'a [MountPoint],
    pub network: &'a PodNetwork,
    /// As the front takes it: `/samara/pod<uid>/<container id>`.
    pub cgroups_path: &'a str,
    /// Bytes of memory the node has; for `oom_score_adj`.
    pub node_memory: i64,
}

/// What the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    pub working_dir: String,
    /// `user`, `user:group`, with names or numbers, or empty.
    pub user: String,
    /// Text of the image's `/etc/passwd`, for a `user` that is a name; may be empty.
    pub passwd: String,
    /// The wasm, if it is known before the container is made.
    pub module: Option<Module>,
}

/// The wasm of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its file on the host, for an image that is only a module; `None`: found in the root by `args[0]`.
    pub path: Option<PathBuf>,
    /// `sha256:...`.
    pub digest: String,
}

/// A directory or file of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub read_only: bool,
}

/// The pod's place on the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodNetwork {
    /// `/run/netns/..`; `None`: the host's.
    pub namespace: Option<PathBuf>,
    /// Primary first; empty for `hostNetwork`.
    pub pod_ips: Vec<IpAddr>,
    /// Mode anyip.
    pub loopback: Option<IpAddr>,
    pub hostname: String,
    pub dns_servers: Vec<String>,
    pub dns_searches: Vec<String>,
    pub dns_options: Vec<String>,
}

/// The container waits with `CreateContainerConfigError` and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunAsUserIsRoot { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    NonNumericUser { user: String, pod: String, container: String },
    #[error("image user {user:?} is not in the image's /etc/passwd")]
    UnknownUser { user: String },
    #[error("{field} is {value}: an id is 0 to 4294967294")]
    Id { field: &'static str, value: i64 },
    #[error("{0} in securityContext.capabilities")]
    Capability(#[from] UnknownCapability),
    #[error("no command specified")]
    NoCommand,
    #[error(transparent)]
    Resources(#[from] resources::ResourceError),
}

/// The spec, annotations included.
pub fn spec(request: &Request<'_>) -> Result<Spec, SpecError> {
    let empty = PodSpec::default();
    let pod_spec = request.pod.spec.as_ref().unwrap_or(&empty);
    let read_only = request.container.security_context.as_ref().and_then(|c| c.read_only_root_filesystem);
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(read_only == Some(true)));
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned())
        .set_root(Some(root))
        .set_mounts(Some(request.mounts.iter().map(mount).collect()))
        .set_process(Some(process(request, pod_spec)?))
        .set_hostname((!is_host_network(request.pod)).then(|| request.network.hostname.clone()))
        .set_annotations(Some(annotations_of(request, pod_spec)?))
        .set_linux(Some(linux(request)?));
    Ok(spec)
}

fn process(request: &Request<'_>, pod_spec: &PodSpec) -> Result<Process, SpecError> {
    let environment = environment(request);
    let identity = identity::identity(request, pod_spec)?;
    let cwd = match request.container.working_dir.as_deref().filter(|dir| !dir.is_empty()) {
        Some(dir) => dir,
        None if request.image.working_dir.is_empty() => "/",
        None => &request.image.working_dir,
    };
    let mut process = Process::default();
    process
        .set_terminal(Some(request.container.tty == Some(true)))
        .set_user(identity.user)
        .set_args(Some(args(request)?))
        .set_env(Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()))
        .set_cwd(cwd.into())
        .set_capabilities(Some(identity.capabilities))
        .set_rlimits(None)
        .set_no_new_privileges(Some(true))
        .set_apparmor_profile(identity.apparmor_profile)
        .set_selinux_label(identity.selinux_label)
        .set_oom_score_adj(Some(resources::oom_score_adj(request.pod, request.container, request.node_memory)));
    Ok(process)
}

/// `command` replaces the image's entrypoint and its cmd, `args` its cmd.
fn args(request: &Request<'_>) -> Result<Vec<String>, SpecError> {
    let expanded = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|text| env::expand(text, request.environment)).collect()
    };
    let command = expanded(request.container.command.as_ref());
    let args = expanded(request.container.args.as_ref());
    let image = request.image;
    let mut argv = match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [image.entrypoint.clone(), args].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    };
    // An image that is only a module has no name for its program: it gets the container's.
    let only_module = image.module.as_ref().is_some_and(|module| module.path.is_some());
    if only_module && image.entrypoint.is_empty() && request.container.command.iter().flatten().next().is_none() {
        argv.insert(0, request.container.name.clone());
    }
    if argv.is_empty() { Err(SpecError::NoCommand) } else { Ok(argv) }
}

/// The image's variables, those of the container over them; `PATH` and `HOSTNAME` as containerd gives them. `env` of the
/// container wins. Order: image, then by name.
fn environment(request: &Request<'_>) -> Vec<(String, String)> {
    let mut variables = vec![
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOSTNAME".to_owned(), request.network.hostname.clone()),
    ];
    let mut set = |name: &str, value: &str| match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_owned(),
        None => variables.push((name.to_owned(), value.to_owned())),
    };
    for variable in &request.image.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        set(name, value);
    }
    for (name, value) in request.environment {
        set(name, value);
    }
    variables
}

fn mount(point: &MountPoint) -> Mount {
    let options = ["rbind", "rprivate", if point.read_only { "ro" } else { "rw" }];
    MountBuilder::default()
        .destination(&point.destination)
        .typ("bind")
        .source(&point.source)
        .options(options.map(str::to_owned))
        .build()
        .expect("every field of a mount has a value or a default")
}

fn linux(request: &Request<'_>) -> Result<Linux, SpecError> {
    let host_network = is_host_network(request.pod);
    let mut namespaces: Vec<LinuxNamespace> =
        [LinuxNamespaceType::Pid, LinuxNamespaceType::Ipc, LinuxNamespaceType::Mount]
            .map(|kind| namespace(kind, None))
            .into();
    if !host_network {
        namespaces.push(namespace(LinuxNamespaceType::Uts, None));
        // Without one of its own it shares the host's, and the socket layer keeps it to its address.
        let network = request.network.namespace.clone();
        namespaces.extend(network.map(|path| namespace(LinuxNamespaceType::Network, Some(path))));
    }
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_cgroups_path(Some(request.cgroups_path.into()))
        .set_resources(Some(resources::container_linux_resources(request.container)?))
        // The guest has no syscalls to filter and no /proc to mask: Samara's own filter is always there.
        .set_seccomp(None)
        .set_masked_paths(None)
        .set_readonly_paths(None);
    Ok(linux)
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    match path {
        Some(path) => builder.path(path),
        None => builder,
    }
    .build()
    .expect("a namespace needs a type only")
}

fn annotations_of(request: &Request<'_>, pod_spec: &PodSpec) -> Result<HashMap<String, String>, SpecError> {
    let meta = &request.pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut map: HashMap<String, String> = HashMap::new();
    let mut set = |key: &str, value: String| map.insert(key.to_owned(), value);
    set(annotations::POD_UID, text(&meta.uid));
    set(annotations::POD_NAME, text(&meta.name));
    set(annotations::POD_NAMESPACE, text(&meta.namespace));
    set(annotations::CONTAINER_NAME, request.container.name.clone());
    set(annotations::ATTEMPT, request.attempt.to_string());
    set(annotations::SPEC_HASH, spec_hash(request.container));
    if let Some(module) = &request.image.module {
        if let Some(path) = &module.path {
            set(annotations::MODULE, path.display().to_string());
        }
        set(annotations::MODULE_DIGEST, module.digest.clone());
    }
    let network = request.network;
    if !network.pod_ips.is_empty() && !is_host_network(request.pod) {
        let ips: Vec<_> = network.pod_ips.iter().map(IpAddr::to_string).collect();
        set(annotations::POD_IPS, ips.join(","));
    }
    if let Some(loopback) = network.loopback.filter(|_| !is_host_network(request.pod)) {
        set(annotations::POD_LOOPBACK, loopback.to_string());
    }
    if let Some(port) = http_port(request.container) {
        set(annotations::HTTP_PORT, port.to_string());
    }
    let grace = pod_spec.termination_grace_period_seconds.unwrap_or(30).max(0);
    set(annotations::GRACE_PERIOD, grace.to_string());
    let dns = [
        (annotations::DNS_SERVERS, &network.dns_servers),
        (annotations::DNS_SEARCHES, &network.dns_searches),
        (annotations::DNS_OPTIONS, &network.dns_options),
    ];
    for (key, list) in dns {
        if !list.is_empty() {
            set(key, list.join(","));
        }
    }
    let resources = resources::pod_linux_resources(request.pod)?;
    set(annotations::POD_RESOURCES, serde_json::to_string(&resources).unwrap_or_default());
    for (key, value) in meta.annotations.iter().flatten() {
        // What a user may say to the runtime, and nothing else: the keys above are ours.
        if key == annotations::HTTP_REQUEST_TIMEOUT || key.starts_with(GUEST_SWITCH) {
            set(key, value.clone());
        }
    }
    Ok(map)
}

/// Prefix of annotations of a pod that are switches for its guests.
pub const GUEST_SWITCH: &str = "samara.dev/guest.";

/// The first TCP port of the container.
pub fn http_port(container: &Container) -> Option<u16> {
    let ports = container.ports.iter().flatten();
    let mut tcp = ports.filter(|port| matches!(port.protocol.as_deref(), None | Some("" | "TCP")));
    tcp.find_map(|port| u16::try_from(port.container_port).ok().filter(|port| *port > 0))
}

/// Changes when, and only when, a running container has to be made anew for its spec: when its image changed (kubelet:
/// `HashContainer`, name and image).
pub fn spec_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    // FNV-1a: stable over versions and machines, which the standard hasher is not.
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;
