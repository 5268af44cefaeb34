//! A network namespace kept by a bind-mounted file, and work done inside it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::fstatfs;

/// `f_type` of a namespace file (`linux/magic.h`).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Making or entering a namespace failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} network namespace {path}")]
pub struct NetnsError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Makes sure that `path` is a network namespace. One that is there is kept, with all that lives in it.
pub(super) fn ensure(path: &Path) -> Result<(), NetnsError> {
    let error = |operation| move |source: io::Error| NetnsError { operation, path: path.to_owned(), source };
    if is_namespace(path) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(error("make directory for"))?;
    }
    File::create(path).map_err(error("make file for"))?;
    thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                rustix::mount::mount_bind("/proc/thread-self/ns/net", path)?;
                Ok::<_, io::Error>(())
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
    })
    .map_err(error("make"))
}

/// Runs `work` on a thread of its own inside the namespace.
pub(super) fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let error = |operation| move |source: io::Error| NetnsError { operation, path: path.to_owned(), source };
    let namespace = File::open(path).map_err(error("open"))?;
    thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                Ok::<_, io::Error>(work())
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
    })
    .map_err(error("enter"))
}

fn is_namespace(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| fstatfs(&file).is_ok_and(|status| status.f_type == NSFS_MAGIC))
}
