//! The guest's root directory, and which of its directories an open one is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir as Listing, Mode, OFlags, Stat, StatVfsMountFlags, fstat, fstatvfs, openat};
use rustix::fs::{readlinkat, statat, symlinkat};

use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::resolve::{Last, resolve};

/// The directory that the guest sees as `/`.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    dir: Arc<File>,
    calls: FileCalls,
    /// Where relative paths begin, if that is not the root itself.
    work: Option<Arc<str>>,
}

/// No path that a guest can walk is deeper: each part has a letter and a slash, and the kernel takes 4096 of them.
const MOST_DEPTH: usize = 2048;

/// Whether a host call may block the thread it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileCalls {
    /// The guest is alone on its thread.
    OnThread,
    /// Other guests run on the same thread.
    OnPool,
}

impl Root {
    pub(crate) fn open(path: &Path, cwd: &str, calls: FileCalls) -> io::Result<Self> {
        let work = cwd.trim_matches('/');
        let work = (!work.is_empty()).then(|| work.into());
        Ok(Self { dir: Arc::new(File::open(path)?), calls, work })
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

    /// Whether paths may begin elsewhere than at the root.
    pub(super) fn has_work(&self) -> bool {
        self.work.is_some()
    }

    /// The path from the root that `path`, said of the root, means for a guest with a working directory: wasi-libc has taken
    /// the leading slash away, so it may be a relative path or an absolute one. What is there is looked for in the working
    /// directory first; what is to be made is made there if it can be. `None`: as it is.
    pub(super) fn begin(&self, path: &str) -> Option<String> {
        let work = self.work.as_deref()?;
        if path.starts_with('/') {
            return None;
        }
        let from_work = format!("{work}/{path}");
        let is_there = |path: &str| samara_inside::in_root(&*self.dir, path, OFlags::PATH | OFlags::NOFOLLOW).is_ok();
        let can_be_made = |path: &str| {
            let parent = path.trim_end_matches('/').rsplit_once('/').map_or(".", |(parent, _)| parent);
            samara_inside::in_root(&*self.dir, parent, OFlags::PATH | OFlags::DIRECTORY).is_ok()
        };
        (is_there(&from_work) || !is_there(path) && can_be_made(&from_work)).then_some(from_work)
    }

    /// Whether `dir` is the root itself.
    pub(super) fn is(&self, dir: &File) -> bool {
        matches!((fstat(&*self.dir), fstat(dir)), (Ok(root), Ok(dir)) if same(&root, &dir))
    }

    /// Whether nothing can be written at a resolved path because its file system is mounted so.
    pub(super) fn is_read_only(&self, resolved: &str) -> bool {
        let there = samara_inside::beneath(&*self.dir, resolved, OFlags::PATH | OFlags::NOFOLLOW)
            .or_else(|_| self.parent(resolved).map(|(parent, _)| parent));
        there.is_ok_and(|file| fstatvfs(file).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY)))
    }

    /// Where an open directory is, from the root: asked of its parents, because a guest's root need not have a `/proc`.
    fn place_of(&self, dir: &File) -> Option<PathBuf> {
        let root = fstat(&*self.dir).ok()?;
        let (mut here, mut names) = (dir.try_clone().ok()?, Vec::new());
        for _ in 0..MOST_DEPTH {
            let stat = fstat(&here).ok()?;
            if same(&stat, &root) {
                return Some(names.iter().rev().collect());
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = File::from(openat(&here, "..", flags, Mode::empty()).ok()?);
            names.push(name_in(&above, &stat)?);
            here = above;
        }
        None
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

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// What a directory is called in the one above it. A mounted one is listed there with the number of what it covers, so each is
/// looked at itself.
fn name_in(above: &File, child: &Stat) -> Option<OsString> {
    let mut listing = Listing::read_from(above).ok()?;
    listing.find_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let stat = statat(above, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_dots = matches!(name.to_bytes(), b"." | b"..");
        (!is_dots && same(&stat, child)).then(|| OsStr::from_bytes(name.to_bytes()).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::*;

    fn scene(cwd: &str) -> (tempfile::TempDir, Root) {
        let root = tempfile::tempdir().unwrap();
        create_dir_all(root.path().join("app/data/deep")).unwrap();
        create_dir_all(root.path().join("etc")).unwrap();
        for file in ["app/config", "app/both", "both", "etc/hosts"] {
            write(root.path().join(file), "").unwrap();
        }
        let opened = Root::open(root.path(), cwd, FileCalls::OnThread).unwrap();
        (root, opened)
    }

    #[test]
    fn a_path_is_looked_for_in_the_working_directory_and_then_from_the_root() {
        let (_root, root) = scene("/app/");
        for (path, begins) in [
            ("config", Some("app/config")),
            ("./config", Some("app/./config")),
            ("data/deep/", Some("app/data/deep/")),
            ("both", Some("app/both")),
            ("app/config", None),
            ("etc/hosts", None),
            ("../both", Some("app/../both")),
            (".", Some("app/.")),
            ("/etc/hosts", None),
            // To be made, or missing.
            ("new", Some("app/new")),
            ("data/new", Some("app/data/new")),
            ("etc/new", None),
            ("no/where", None),
        ] {
            assert_eq!(root.begin(path).as_deref(), begins, "{path}");
        }
    }

    #[test]
    fn without_a_working_directory_every_path_begins_at_the_root() {
        for cwd in ["", "/", "//"] {
            assert_eq!(scene(cwd).1.begin("config"), None, "{cwd:?}");
        }
        assert_eq!(scene("/missing").1.begin("etc/hosts"), None);
        assert_eq!(scene("/missing").1.begin("new"), None, "there is no place for it but the root");
    }

    #[test]
    fn an_open_directory_is_found_from_the_root() {
        let (path, root) = scene("/");
        let place = |name: &str| root.place_of(&File::open(path.path().join(name)).unwrap());
        assert_eq!(place("app/data/deep"), Some("app/data/deep".into()));
        assert_eq!(place("."), Some(PathBuf::new()));
        assert_eq!(root.place_of(&File::open("/").unwrap()), None, "outside");
        assert!(root.is(&File::open(path.path()).unwrap()));
        assert!(!root.is(&File::open(path.path().join("app")).unwrap()));
    }
}
