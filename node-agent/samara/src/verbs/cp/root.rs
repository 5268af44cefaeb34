//! The container's root, held open: of a running one what its process sees, of a stopped one what it would see.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::container::Container;

/// A root, and the path in it that is meant.
pub(super) fn open(container: &Container, volumes: &Path, path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let path = &plain(path);
    if let Some(pid) = container.pid()? {
        let root = format!("/proc/{pid}/root");
        let root =
            directory(Path::new(&root)).with_context(|| format!("open the root of {}", container.record.name))?;
        // A pid is used again: it must still be the container's.
        if container.pid()? == Some(pid) {
            return Ok((root, path.to_owned()));
        }
    }
    let mounts = container.spec()?.mounts().clone().unwrap_or_default();
    let binds: Vec<(PathBuf, PathBuf)> = mounts
        .into_iter()
        .filter(|mount| mount.typ().as_deref() == Some("bind"))
        .filter_map(|mount| Some((mount.destination().clone(), mount.source().clone()?)))
        .collect();
    if let Some((source, rest)) = mounted(path, &binds) {
        if source.is_file() {
            bail!("{} is a file of this machine, {}: copy that", path.display(), source.display());
        }
        let root = directory(source)
            .with_context(|| format!("open {} (volumes are in {})", source.display(), volumes.display()))?;
        return Ok((root, rest));
    }
    Ok((stopped(container)?, path.to_owned()))
}

fn directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Without `..`, which takes back the name before it, be that a link or not, as with docker. What the path ended with says what is
/// meant, and stays. Pure.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let bytes = path.as_os_str().as_encoded_bytes();
    match (bytes.ends_with(b"/."), bytes.ends_with(b"/")) {
        (true, _) => plain.push("."),
        (false, true) => plain.push(""),
        (false, false) => {}
    }
    plain
}

/// The innermost mount that a path is in, and the path in it. Pure.
fn mounted<'a>(path: &Path, binds: &'a [(PathBuf, PathBuf)]) -> Option<(&'a Path, PathBuf)> {
    let around = binds.iter().filter(|(target, _)| path.starts_with(target));
    let (target, source) = around.max_by_key(|(target, _)| target.components().count())?;
    let mut rest = Path::new("/").join(path.strip_prefix(target).ok()?);
    // What the path ended with says what is meant.
    if path.as_os_str().as_encoded_bytes().ends_with(b"/.") {
        rest.push(".");
    }
    Some((source, rest))
}

/// Its layers under its own one.
fn stopped(container: &Container) -> Result<OwnedFd> {
    let Some(overlay) = container.record.rootfs(container.dir()).pop() else {
        let root = container.bundle().rootfs();
        return directory(&root).with_context(|| format!("open {}", root.display()));
    };
    let point = tempfile::tempdir().context("make a place to mount its root")?;
    let target = point.path().to_owned();
    // Mounted in a namespace of a thread's own, and held by the open directory: nobody else sees it.
    let mounted = std::thread::spawn(move || -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(overlay.options.join(",").as_str()))?;
        let root = directory(&target)?;
        umount2(&target, MntFlags::MNT_DETACH)?;
        Ok(root)
    });
    let root = mounted.join().map_err(|_| anyhow::Error::msg("the thread that mounts panicked"))?;
    root.with_context(|| format!("mount the root of {}", container.record.name))
}

/// The directory behind an `O_PATH` descriptor, to be read.
pub(super) fn readable(dir: &OwnedFd) -> rustix::io::Result<File> {
    openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_without_its_ways_back_before_its_mount_is_looked_for() {
        let binds = [("/data".into(), "/v/data".into())];
        for (path, expected, is_mounted) in [
            ("/data/../rooted", "/rooted", false),
            ("/data/..", "/", false),
            ("/srv/../data/a/../b/", "/data/b/", true),
            ("/srv/.././data/.", "/data/.", true),
            ("/../../data", "/data", true),
            ("/a/b/..", "/a", false),
            ("/data/..x", "/data/..x", true),
            ("/", "/", false),
            ("/.", "/.", false),
        ] {
            let found = plain(Path::new(path));
            assert_eq!(found.as_os_str(), expected, "{path}");
            assert_eq!(mounted(&found, &binds).is_some(), is_mounted, "{path}");
        }
    }

    #[test]
    fn a_path_is_in_the_innermost_mount_around_it() {
        let binds = [("/data".into(), "/v/data".into()), ("/data/cache".into(), "/h/cache".into())];
        for (path, expected) in [
            ("/data/cache/x", Some(("/h/cache", "/x"))),
            ("/data/y", Some(("/v/data", "/y"))),
            ("/data", Some(("/v/data", "/"))),
            ("/database", None),
            ("/", None),
        ] {
            let found = mounted(Path::new(path), &binds);
            assert_eq!(found, expected.map(|(root, rest)| (Path::new(root), PathBuf::from(rest))), "{path}");
        }
    }
}
