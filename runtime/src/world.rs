//! What a guest is given: arguments, files, streams, limits and its identity on the network.

use std::fmt;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything one guest sees of the world. The default is an empty one: no files but `/`, no input, output dropped.
#[derive(Debug)]
pub struct World {
    /// Arguments, the program's own name first.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Directory that relative paths begin at. Empty means `/`.
    pub cwd: String,
    /// Host directory that becomes the guest's `/`: `/` itself after `pivot_root`.
    pub root: PathBuf,
    /// File 0.
    pub stdin: Stdin,
    /// File 1.
    pub stdout: Output,
    /// File 2; traps are reported here.
    pub stderr: Output,
    /// The three streams are a terminal.
    pub terminal: bool,
    /// Bytes of linear memory and tables for all instances of the process together; `None` without limit.
    pub memory_limit: Option<u64>,
    /// Whole cpus it may use, rounded up; 0 counts as 1. Workers of an http guest.
    pub cpus: u32,
    /// Its addresses and how it looks up names.
    pub network: Network,
    /// How it is served if it is a `wasi:http` guest.
    pub http: Http,
    /// Called from any thread when a socket of the guest begins to listen, with the address as the kernel knows it.
    pub on_listen: Option<OnListen>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".into(),
            root: "/".into(),
            stdin: Stdin::Empty,
            stdout: Output::Null,
            stderr: Output::Null,
            terminal: false,
            memory_limit: None,
            cpus: 1,
            network: Network::default(),
            http: Http::default(),
            on_listen: None,
        }
    }
}

/// Where input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// At end of file at once.
    Empty,
    /// Any readable file: pipe, fifo, terminal, socket or regular file.
    Fd(OwnedFd),
}

/// Where a stream goes.
///
/// The file descriptor's *number* is written to for the whole life of the guest: whoever rotates a log puts the new
/// file under the same number with `dup3`, and keeps a share of the old one, so that the number is never another's.
#[derive(Debug)]
pub enum Output {
    /// Dropped.
    Null,
    /// Bytes as they are.
    Raw(Arc<File>),
    /// CRI log records, one `O_APPEND` write each.
    Cri {
        /// Opened with `O_APPEND`.
        file: Arc<File>,
        /// Named in each record.
        stream: Stream,
    },
}

impl Output {
    /// Bytes as they are, into this file.
    pub fn raw(file: impl Into<OwnedFd>) -> Self {
        Self::Raw(Arc::new(File::from(file.into())))
    }

    /// CRI log records of this name, into this file.
    pub fn cri(file: impl Into<OwnedFd>, stream: Stream) -> Self {
        Self::Cri { file: Arc::new(File::from(file.into())), stream }
    }

    /// A share of the file, if there is one.
    pub fn file(&self) -> Option<Arc<File>> {
        match self {
            Self::Null => None,
            Self::Raw(file) | Self::Cri { file, .. } => Some(Arc::clone(file)),
        }
    }
}

/// Name of a stream in a CRI record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The guest's identity on the network.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The pod's addresses, primary first. Empty: the namespace's own, and nothing is rewritten.
    pub pod_ips: Vec<IpAddr>,
    /// What 127.0.0.1 and `::1` mean for this pod, where many pods share a namespace.
    pub loopback: Option<IpAddr>,
    /// How names are looked up.
    pub dns: Dns,
}

/// Name look-up as `resolv.conf` and `hosts` would say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Asked in order. Empty: only `hosts` and literal addresses resolve.
    pub servers: Vec<SocketAddr>,
    /// Search list.
    pub searches: Vec<String>,
    /// `ndots:5`, `timeout:2`, `attempts:3`; unknown ones are ignored, as resolvers do.
    pub options: Vec<String>,
    /// Lines of a hosts file.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
}

/// How a `wasi:http` guest is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http {
    /// TCP port, on every pod address, or on the wildcard address if there is none.
    pub port: u16,
    /// Bound on the time a request spends waiting; past it the client gets 504.
    pub request_timeout: Duration,
    /// Requests that one instance may answer, one after the other; 1 gives each its own. More is for guests whose
    /// globals may be seen by the next request.
    pub reuse: u32,
    /// Bytes of a request's body, past which the client gets 413; `None` without limit.
    pub max_body: Option<u64>,
    /// Connections at a time; one more gets 503.
    pub connections: usize,
    /// Time a client has to send a request's head, to send or take more of a body that somebody waits for, and to be
    /// silent on a connection that is kept for it.
    pub client_timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            port: 8080,
            request_timeout: Duration::from_secs(60),
            reuse: 1,
            max_body: None,
            connections: 4096,
            client_timeout: Duration::from_secs(75),
        }
    }
}

/// See [`World::on_listen`].
#[derive(Clone)]
pub struct OnListen(Arc<dyn Fn(SocketAddr) + Send + Sync>);

impl OnListen {
    /// Wraps what is to be called.
    pub fn new(call: impl Fn(SocketAddr) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    pub(crate) fn tell(&self, address: SocketAddr) {
        (self.0)(address);
    }
}

impl fmt::Debug for OnListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnListen")
    }
}
