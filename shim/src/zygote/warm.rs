//! What is made once, before any fork, and shared by all containers of a zygote.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use rustix::fs::{Dir, Mode, OFlags};
use samara_runtime::{Host, HostConfig, HostError};

use crate::container::{Filter, FilterError};

/// Engine, filters, and the few files a child needs of the host.
#[derive(Debug)]
pub struct Warm {
    pub(crate) host: Host,
    /// Files that the engine holds open; they work in a child too (it repairs them itself after a fork).
    pub(crate) host_files: BTreeSet<RawFd>,
    /// Samara's own seccomp filter, compiled.
    pub(crate) filter: Filter,
    /// `/proc` of the zygote's pid namespace. No container keeps it.
    pub(crate) proc: OwnedFd,
    /// `/dev/null`.
    pub(crate) null: OwnedFd,
}

/// A zygote cannot warm up.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("compile the seccomp filter")]
    Filter(#[from] FilterError),
    #[error("open {path}")]
    Open {
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Warm {
    /// Makes it all: some milliseconds.
    pub fn new() -> Result<Self, WarmError> {
        let proc = open("/proc", OFlags::PATH | OFlags::DIRECTORY)?;
        let null = open("/dev/null", OFlags::RDWR)?;
        let filter = Filter::own()?;
        let before = open_files()?;
        let host = Host::new(&HostConfig::default())?;
        let host_files = open_files()?.difference(&before).copied().collect();
        Ok(Self { host, host_files, filter, proc, null })
    }
}

fn open(path: &'static str, flags: OFlags) -> Result<OwnedFd, WarmError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| WarmError::Open { path, source: source.into() })
}

fn open_files() -> Result<BTreeSet<RawFd>, WarmError> {
    const PATH: &str = "/proc/self/fd";
    let error = |source: rustix::io::Errno| WarmError::Open { path: PATH, source: source.into() };
    let directory = open(PATH, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let own = directory.as_raw_fd();
    let mut files = BTreeSet::new();
    for entry in Dir::new(directory).map_err(error)? {
        let entry = entry.map_err(error)?;
        // "." and ".." are no numbers.
        if let Ok(Ok(number)) = entry.file_name().to_str().map(str::parse)
            && number != own
        {
            files.insert(number);
        }
    }
    Ok(files)
}
