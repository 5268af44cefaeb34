//! A network namespace with a name, so that `ip -n <name>` shows it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

/// Where iproute2 keeps named namespaces.
const NAMED: &str = "/run/netns";

/// A network namespace, kept open.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    path: Option<PathBuf>,
    file: Arc<File>,
}

impl Namespace {
    /// The one in which the calling thread is.
    pub fn current() -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net").context("open /proc/thread-self/ns/net")?;
        Ok(Self { name: "this process's".into(), path: None, file: Arc::new(file) })
    }

    /// Makes a new one, with `lo` up and forwarding on.
    pub fn make(name: &str) -> Result<Self> {
        run_ip(&["netns", "add", name], "")?;
        let namespace = Self::open(name)?;
        namespace.ip("link set lo up")?;
        namespace.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?.context("switch forwarding on")?;
        Ok(namespace)
    }

    /// Opens the one of this name.
    pub fn open(name: &str) -> Result<Self> {
        let path = Path::new(NAMED).join(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { name: name.to_owned(), path: Some(path), file: Arc::new(file) })
    }

    /// Removes the name; the namespace goes with its last process.
    pub fn remove(name: &str) -> Result<()> {
        if Path::new(NAMED).join(name).exists() { run_ip(&["netns", "delete", name], "") } else { Ok(()) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Path by which a child of this process can open it.
    pub fn path(&self) -> PathBuf {
        match self.path.as_deref() {
            Some(path) => path.to_owned(),
            None => format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&*self.file)).into(),
        }
    }

    /// Moves the calling thread, and all that it will start, into it.
    pub fn enter(&self) -> Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter network namespace {}", self.name))
    }

    /// Runs something inside, on a thread of its own: sockets made and programs started there stay in it.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| inside()));
            thread.join().map_err(|_| anyhow!("a thread in network namespace {} panicked", self.name))?
        })
    }

    /// Runs lines of `ip` commands (without the word `ip`) inside.
    pub fn ip(&self, lines: &str) -> Result<()> {
        run_ip(&["-n", &self.name, "-batch", "-"], lines)
    }
}

fn run_ip(args: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start `ip` (package iproute2: `make setup`)")?;
    if let Some(mut stdin) = child.stdin.take() {
        // An `ip` that fails early closes its end; what it says on stderr is the better message.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`ip {}` failed: {}{}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim(), indented(input));
    }
    Ok(())
}

fn indented(input: &str) -> String {
    input.lines().map(|line| format!("\n    {line}")).collect()
}
