//! Notices when the zygote's socket is removed: no front can come any more. It may be gone before the watching begins, when
//! a front ends as soon as it has begun.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::net::{SocketAddrUnix, getsockname};

/// Watches the directory of a listening socket. Made before the host's mounts are left, works after.
#[derive(Debug)]
pub struct Watch(Watched);

#[derive(Debug)]
enum Watched {
    /// It has no name, or cannot be watched.
    Never,
    Gone,
    /// The socket's inode, and what becomes readable when its directory changes.
    There(OwnedFd, OwnedFd),
}

impl Watch {
    /// A socket without a path, or one that cannot be watched, is never gone.
    pub fn new(listen: &OwnedFd) -> Self {
        let Some(path) = path_of(listen) else { return Self(Watched::Never) };
        Self(match watch(&path) {
            Ok((socket, changes)) => Watched::There(socket, changes),
            Err(rustix::io::Errno::NOENT) => Watched::Gone,
            Err(_) => Watched::Never,
        })
    }

    /// What to poll, if there is something to watch.
    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Watched::There(_, changes) => Some(changes.as_fd()),
            Watched::Never | Watched::Gone => None,
        }
    }

    /// Takes the changes that were seen; whether the socket has no name any more.
    pub(super) fn is_gone(&self) -> bool {
        let (socket, changes) = match &self.0 {
            Watched::Never => return false,
            Watched::Gone => return true,
            Watched::There(socket, changes) => (socket, changes),
        };
        let mut bytes = [0; 4096];
        while rustix::io::read(changes, &mut bytes[..]).is_ok_and(|length| length > 0) {}
        fstat(socket).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

fn path_of(listen: &OwnedFd) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(getsockname(listen).ok()?).ok()?;
    let path = address.path()?;
    Some(Path::new(path.to_str().ok()?).to_owned())
}

fn watch(path: &Path) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let socket = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    add_watch(&changes, directory, WatchFlags::DELETE | WatchFlags::MOVED_FROM)?;
    Ok((socket, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_socket_is_gone_and_a_neighbour_s_removal_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zygote.sock");
        let listen = crate::zygote::listen(&path).unwrap();
        std::fs::write(directory.path().join("neighbour"), "").unwrap();
        let watch = Watch::new(&listen);
        assert!(!watch.is_gone());
        std::fs::remove_file(directory.path().join("neighbour")).unwrap();
        assert!(!watch.is_gone());
        std::fs::remove_dir_all(directory.path()).unwrap();
        assert!(watch.is_gone());
        assert!(Watch::new(&listen).is_gone(), "as one that was removed before");
    }

    #[test]
    fn a_socket_without_a_path_is_never_gone() {
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let watch = Watch::new(&socket.into());
        assert!(watch.file().is_none() && !watch.is_gone());
    }
}
