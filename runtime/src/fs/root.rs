//! The guest's root directory, and which of its directories an open one is.

use std::fs::{File, read_link};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, fstat, readlinkat, symlinkat};

use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::resolve::{Last, resolve};

/// The directory that the guest sees as `/`.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    dir: Arc<File>,
    calls: FileCalls,
}

/// Whether a host call may block the thread it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileCalls {
    /// The guest is alone on its thread.
    OnThread,
    /// Other guests run on the same thread.
    OnPool,
}

impl Root {
    pub(crate) fn open(path: &Path, calls: FileCalls) -> io::Result<Self> {
        Ok(Self { dir: Arc::new(File::open(path)?), calls })
    }

    pub(super) fn dir(&self) -> &File {
        &self.dir
    }

    /// The root as a guest holds it.
    pub(super) fn descriptor(&self) -> io::Result<Descriptor> {
        let modes = OpenMode::READ | OpenMode::WRITE;
        let blocking = self.calls == FileCalls::OnThread;
        Ok(Descriptor::Dir(Dir::new(self.dir.try_clone()?, FsPerms::ReadWrite, modes, blocking)))
    }

    /// `path` from `dir` as a path from the root; `None` if it is not known where `dir` is.
    pub(super) fn resolve(&self, dir: &File, path: &str, last: Last) -> Option<String> {
        let base = self.place_of(dir)?;
        let resolved = resolve(self.dir.as_fd(), &base, Path::new(path), last).ok()?;
        let mut resolved = resolved.into_os_string().into_string().ok()?;
        if path.ends_with('/') {
            resolved.push('/');
        }
        Some(resolved)
    }

    /// Where an open directory is, from the root.
    fn place_of(&self, dir: &File) -> Option<PathBuf> {
        let (root, dir_stat) = (fstat(&*self.dir).ok()?, fstat(dir).ok()?);
        if (root.st_dev, root.st_ino) == (dir_stat.st_dev, dir_stat.st_ino) {
            return Some(PathBuf::new());
        }
        let name = |file: &File| read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        name(dir)?.strip_prefix(name(&self.dir)?).ok().map(Path::to_owned)
    }

    /// Opens a file for our own reading, as the guest would find it.
    pub(crate) fn open_file(&self, path: &str) -> io::Result<File> {
        Ok(samara_inside::in_root(&*self.dir, path, OFlags::RDONLY | OFlags::NONBLOCK)?.into())
    }

    /// Text of the symlink at a resolved path.
    pub(super) fn read_link(&self, resolved: &str) -> io::Result<String> {
        let (parent, name) = self.parent(resolved)?;
        let target = readlinkat(parent, name, Vec::new())?;
        target.into_string().map_err(|_| io::Error::from(rustix::io::Errno::ILSEQ))
    }

    /// Makes a symlink at a resolved path. Its text may be anything: it is resolved inside the root by whoever follows.
    pub(super) fn symlink(&self, text: &str, resolved: &str) -> io::Result<()> {
        let (parent, name) = self.parent(resolved)?;
        Ok(symlinkat(text, parent, name)?)
    }

    /// The directory of a resolved path, opened so that the kernel proves that it is inside.
    fn parent<'a>(&self, resolved: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let resolved = resolved.trim_end_matches('/');
        let (parent, name) = resolved.rsplit_once('/').unwrap_or((".", resolved));
        let parent = samara_inside::beneath(&*self.dir, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((parent, name))
    }
}
