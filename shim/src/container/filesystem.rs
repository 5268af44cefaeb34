//! The file system of a container: its root, what is mounted in it, and the move into it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use super::files::{FileError, Files};
use super::kernel;
use super::resolve::{self, ResolveError};
use crate::plan::Filesystem;
use crate::zygote::ROOT;

/// The container's file system could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("mount {destination}: {operation}")]
    Mount {
        destination: PathBuf,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("mount {destination}")]
    Destination {
        destination: PathBuf,
        #[source]
        source: ResolveError,
    },
    #[error("root file system: {operation}")]
    Root {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

fn root<E: Into<io::Error>>(operation: &'static str) -> impl Fn(E) -> FilesystemError {
    move |source| FilesystemError::Root { operation, source: source.into() }
}

/// Puts the mounts in place, inside a new mount namespace. The process itself is still outside.
pub(super) fn assemble(plan: &Filesystem, files: &Files) -> Result<(), FilesystemError> {
    let new_root = files.get(plan.root, "the root file system")?;
    // A bind mount of the host's may be shared with it; nothing that is mounted below shall come out.
    kernel::mount_setattr(new_root, 0, libc::MS_PRIVATE).map_err(root("make it private"))?;
    attach(new_root, CWD, ROOT).map_err(root("mount it"))?;
    for mount in &plan.mounts {
        let destination = &mount.destination;
        let source = files.get(mount.source, "a mount")?;
        let place = resolve::open_or_make(new_root, destination, mount.directory)
            .map_err(|source| FilesystemError::Destination { destination: destination.clone(), source })?;
        attach(source, place.as_fd(), "").map_err(|errno| FilesystemError::Mount {
            destination: destination.clone(),
            operation: "move_mount",
            source: errno.into(),
        })?;
    }
    if plan.read_only {
        kernel::mount_setattr(new_root, libc::MOUNT_ATTR_RDONLY, 0).map_err(root("make it read-only"))?;
    }
    Ok(())
}

/// Makes the root the process's own and forgets the zygote's.
pub(super) fn move_in(plan: &Filesystem, files: &Files) -> Result<(), FilesystemError> {
    fchdir(files.get(plan.root, "the root file system")?).map_err(root("go there"))?;
    pivot_root(".", ".").map_err(root("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(root("leave the zygote's"))?;
    chdir("/").map_err(root("go to /"))
}

fn attach(mount: BorrowedFd<'_>, directory: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", directory, path, flags)
}
