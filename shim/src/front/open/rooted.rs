//! Opening a file of a container by the container's own idea of the path.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::Mounted;

/// Where a container's paths lead: a root that is not mounted yet with its volumes, or that of a living process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rooted<'a> {
    Detached(&'a Mounted),
    Living(BorrowedFd<'a>),
}

impl Rooted<'_> {
    /// Opens a regular file for reading. Links are followed as the container would follow them, and never out of it.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        let path = normal(path);
        match self {
            Self::Living(root) => open_in(*root, &path),
            Self::Detached(mounted) => match mounted.covering(&path) {
                Some((mount, below)) => open_in(mount, below),
                None => open_in(mounted.root(), &path),
            },
        }
    }
}

/// Opens a regular file below `root`, which is `/` to all links on the way. An empty path is `root` itself.
pub(crate) fn open_in(root: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    // Not blocking: a fifo in an image, or mounted into it, must not hold up the front.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: File = if path.as_os_str().is_empty() {
        // A mounted file: there is nothing to resolve, and an O_PATH file is opened anew through /proc.
        let number = std::os::fd::AsRawFd::as_raw_fd(&root);
        rustix::fs::open(format!("/proc/self/fd/{number}"), flags, Mode::empty())?.into()
    } else {
        samara_inside::in_root(root, path, flags)?.into()
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::EACCES)) }
}

/// Without `.` and with `..` taken as text, as a shell does.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_the_root() {
        let dir = tempfile::tempdir().expect("directory");
        let root = dir.path();
        std::fs::create_dir(root.join("bin")).expect("bin");
        std::fs::write(root.join("bin/app"), "app").expect("app");
        symlink("/bin/app", root.join("absolute")).expect("link");
        symlink("../../../../bin/app", root.join("upwards")).expect("link");
        symlink("/etc/hostname", root.join("outside")).expect("link");
        symlink("/loop", root.join("loop")).expect("link");
        let fd = File::open(root).expect("root");
        let read = |path: &str| open_in(fd.as_fd(), Path::new(path)).and_then(io::read_to_string);
        for path in ["/bin/app", "/absolute", "/upwards", "/../bin/app"] {
            assert_eq!(read(path).expect(path), "app", "{path}");
        }
        assert_eq!(read("/outside").expect_err("not ours").kind(), io::ErrorKind::NotFound);
        assert!(read("/loop").is_err());
        assert!(read("/bin").is_err(), "a directory is no program");
    }

    #[test]
    fn a_fifo_in_an_image_or_mounted_into_it_does_not_hold_us_up() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).expect("fifo");
        let fd = File::open(dir.path()).expect("root");
        let mounted = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("a mount");
        for (root, path) in [(fd.as_fd(), "/fifo"), (mounted.as_fd(), "")] {
            let error = open_in(root, Path::new(path)).expect_err("no program");
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}");
        }
    }

    #[test]
    fn dots_are_taken_as_text() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(normal(Path::new("../../x")), Path::new("/x"));
    }
}
