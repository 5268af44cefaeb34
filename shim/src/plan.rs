//! What the front tells a container process to become: everything it needs, decided, and every file already open.
//!
//! The plan travels as JSON in a memfd beside the file descriptors it names ([`Fd`] is an index into them). The zygote
//! reads neither.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp, PosixRlimit};
use serde::{Deserialize, Serialize};

mod carry;
mod report;

pub use carry::{MAX_SIZE, PlanError};
pub use report::{REPORT_SIZE, Report};

/// Index into the file descriptors that travel with the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fd(pub u16);

/// Version of this structure; a container refuses another one.
pub const VERSION: u32 = 1;

/// One container process, first or exec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPlan {
    /// [`VERSION`].
    pub version: u32,
    /// Container id, and exec id behind a slash; for messages.
    pub id: String,
    /// What `ps` and `top` show (`comm`): the container's name. The kernel keeps 15 bytes.
    pub title: String,
    /// Files to write `0` into: v1 `tasks` of each hierarchy, v2 `cgroup.procs`.
    pub cgroups: Vec<Fd>,
    /// What it has of its own and what it joins.
    pub namespaces: Namespaces,
    /// Set in a new UTS namespace.
    pub hostname: Option<String>,
    /// Set in a new UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Settings of its namespaces: path below `/proc/sys`, and value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// The file system it sees. `None` for an exec, which joins the container's mount namespace and root.
    pub filesystem: Option<Filesystem>,
    /// Ids, capabilities, limits, filters.
    pub identity: Identity,
    /// Where input comes from and output goes.
    pub stdio: Stdio,
    /// Compiled code, opened and verified by the front.
    pub code: Fd,
    /// Listening unix stream socket that the control thread serves. `None` for a process without one.
    pub control: Option<Fd>,
    /// Sealed memfd of [`REPORT_SIZE`] bytes in which the process leaves a [`Report`] before it ends.
    pub report: Fd,
    /// What the guest is given.
    pub guest: Guest,
}

/// Linux namespaces of the process. The pid namespace is the zygote's part (see `zygote::protocol`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespaces {
    /// Joined; `None` keeps the host's.
    pub network: Option<Fd>,
    /// Its own, the container's it joins, or the host's.
    pub mount: Namespace,
    pub uts: Namespace,
    pub ipc: Namespace,
    pub cgroup: Namespace,
}

/// One namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Namespace {
    /// The zygote's.
    #[default]
    Host,
    /// `unshare`.
    New,
    /// `setns`.
    Join(Fd),
}

/// Detached mounts (`fsmount`, `open_tree`), put in place with `move_mount`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filesystem {
    /// The root. Becomes `/` by `pivot_root`.
    pub root: Fd,
    /// `root.readonly`: remounted read-only when all mounts are in place.
    pub read_only: bool,
    /// In order. Attributes (read-only, nosuid, ...) were set on the detached mount by the front.
    pub mounts: Vec<Mount>,
}

/// A volume or file in the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub source: Fd,
    /// Inside the root, resolved with `RESOLVE_IN_ROOT`; missing directories (or the file) are made.
    pub destination: PathBuf,
    /// Whether the source is a directory: says what to make when the destination is missing.
    pub directory: bool,
}

/// Who the process is to the kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub umask: Option<u32>,
    /// Exactly these; `None` is none at all.
    pub capabilities: Option<LinuxCapabilities>,
    pub no_new_privileges: bool,
    pub rlimits: Vec<PosixRlimit>,
    pub oom_score_adj: Option<i32>,
    /// Stacked on Samara's own filter.
    pub seccomp: Option<LinuxSeccomp>,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
}

/// Files 0, 1 and 2 of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stdio {
    /// `None`: at end of file at once.
    pub stdin: Option<Fd>,
    pub stdout: Output,
    pub stderr: Output,
    /// All three are the slave of a pty.
    pub terminal: bool,
    /// The pty's master, which the control thread keeps for the next front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Fd>,
}

/// Where a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Output {
    Null,
    /// Bytes as they are.
    Raw(Fd),
    /// CRI log records; the file is replaced over the control socket when it is rotated.
    Cri(Fd),
}

/// What the guest sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    pub args: Vec<String>,
    /// `KEY=VALUE`, in order.
    pub env: Vec<String>,
    pub cwd: String,
    /// Bytes of linear memory for all its instances together; `None` without limit.
    pub memory_limit: Option<u64>,
    /// Whole cpus it may use, rounded up; at least 1. Workers of an http guest.
    pub cpus: u32,
    pub network: GuestNetwork,
    pub http: GuestHttp,
    /// Whole annotations of the bundle that begin with `samara.dev/guest.`, for switches that come later.
    #[serde(default)]
    pub switches: BTreeMap<String, String>,
}

/// Its identity on the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestNetwork {
    /// Empty: the namespace's own addresses (host, cni, `samara run`), nothing is rewritten.
    pub pod_ips: Vec<std::net::IpAddr>,
    /// Mode anyip: what 127.0.0.1 means for this pod.
    pub loopback: Option<std::net::IpAddr>,
    /// Empty: the host's resolv.conf (read by the front; `/etc/resolv.conf` of the root is what the guest sees).
    pub dns_servers: Vec<std::net::SocketAddr>,
    pub dns_searches: Vec<String>,
    pub dns_options: Vec<String>,
    /// Lines of the pod's hosts file, address and names.
    pub hosts: Vec<(std::net::IpAddr, Vec<String>)>,
}

/// How a `wasi:http` guest is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestHttp {
    /// The guest's `PORT`, else the annotation, else 8080.
    pub port: u16,
    /// Whole seconds; 0 means 60.
    pub request_timeout_seconds: u32,
    /// The pod's grace period, whole seconds.
    pub grace_period_seconds: u32,
    /// Requests that one instance may answer; 0 means one.
    #[serde(default)]
    pub reuse: u32,
    /// Bytes of a request's body; `None` without limit.
    #[serde(default)]
    pub max_body: Option<u64>,
    /// Connections at a time; 0 means the default.
    #[serde(default)]
    pub connections: u32,
}
