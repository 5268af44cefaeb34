//! A mount namespace with two mounts in it, so that a child's copy of it costs nothing.
//!
//! The root is an empty tmpfs with `proc`, where the engine finds its own page map after a fork, and `root`, where a
//! child puts its root file system before it moves into it. Everything else reaches a child as an open file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, mkdirat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};

/// Directory in the zygote's root on which a child mounts its own root.
pub(crate) const ROOT: &str = "/root";

/// The zygote cannot have a mount namespace of its own.
#[derive(Debug, thiserror::Error)]
#[error("enter a private mount namespace: {operation}")]
pub(super) struct SeclusionError {
    operation: &'static str,
    #[source]
    source: io::Error,
}

/// Leaves the host's mounts for good.
pub(super) fn enter() -> Result<(), SeclusionError> {
    let at = |operation| move |source: rustix::io::Errno| SeclusionError { operation, source: source.into() };
    crate::container::unshare(rustix::thread::UnshareFlags::NEWNS).map_err(at("unshare"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(at("make / private"))?;

    let root = empty_root().map_err(at("make an empty root"))?;
    // By path: a file opened before belongs to the host's mount namespace, from which nothing may be cloned any more.
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let proc = open_tree(rustix::fs::CWD, "/proc", clone).map_err(at("clone /proc"))?;

    attach(&root, rustix::fs::CWD, "/").map_err(at("mount the empty root"))?;
    fchdir(&root).map_err(at("go to the empty root"))?;
    pivot_root(".", ".").map_err(at("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(at("leave the old root"))?;
    rustix::process::chdir("/").map_err(at("go to /"))?;
    attach(&proc, rustix::fs::CWD, "/proc").map_err(at("mount /proc"))?;
    Ok(())
}

fn empty_root() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "size", "64k")?;
    fsconfig_set_string(context.as_fd(), "mode", "0700")?;
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    mkdirat(&root, "proc", Mode::RWXU)?;
    mkdirat(&root, ROOT.trim_start_matches('/'), Mode::RWXU)?;
    Ok(root)
}

fn attach(mount: &OwnedFd, directory: impl AsFd, path: &str) -> rustix::io::Result<()> {
    move_mount(mount, "", directory, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
