//! Where a mount goes: a path inside an image whose content nobody vouches for.
//!
//! Symbolic links are followed as the guest would follow them, with the image's root as `/`; no content of the image,
//! however it is changed meanwhile, leads outside (`RESOLVE_IN_ROOT` on every step).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, readlinkat};
use rustix::io::Errno;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// A mount's destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("it is the root itself")]
    Root,
    #[error("more than {MAX_LINKS} symbolic links")]
    Links,
    #[error("{operation} {path:?} in the image")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> ResolveError {
    move |errno| ResolveError::Io { operation, path: path.to_owned(), source: errno.into() }
}

/// Opens `destination` in `root` as a place to mount on. What is missing is made: directories, and a file at the end
/// unless it is to be a directory.
pub(super) fn open_or_make(root: BorrowedFd<'_>, destination: &Path, directory: bool) -> Result<OwnedFd, ResolveError> {
    match open(root, destination, OFlags::empty()) {
        Ok(place) if is_root(root, &place) => Err(ResolveError::Root),
        Ok(place) => Ok(place),
        Err(Errno::NOENT) => make(root, destination, directory),
        Err(errno) => Err(at("open", destination)(errno)),
    }
}

fn make(root: BorrowedFd<'_>, destination: &Path, directory: bool) -> Result<OwnedFd, ResolveError> {
    // Exists, without symbolic links, relative to the root.
    let mut found = PathBuf::new();
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    lay_ahead(&mut ahead, destination);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            found.pop();
            continue;
        }
        let path = found.join(&name);
        match open(root, &path, OFlags::NOFOLLOW) {
            Ok(entry) if is_link(&entry).map_err(at("look at", &path))? => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(ResolveError::Links);
                }
                let target = readlinkat(&entry, "", Vec::new()).map_err(at("read", &path))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    found.clear();
                }
                lay_ahead(&mut ahead, &target);
                continue;
            }
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let parent = open(root, &found, OFlags::DIRECTORY).map_err(at("open", &found))?;
                let file = ahead.is_empty() && !directory;
                make_one(&parent, &name, file).map_err(at("make", &path))?;
            }
            Err(errno) => return Err(at("open", &path)(errno)),
        }
        found = path;
    }
    if found.as_os_str().is_empty() {
        return Err(ResolveError::Root);
    }
    open(root, &found, OFlags::NOFOLLOW).map_err(at("open", &found))
}

/// Puts the components of `path` before those that are ahead already.
fn lay_ahead(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn make_one(parent: &OwnedFd, name: &OsString, file: bool) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(if file { 0o644 } else { 0o755 });
    let made = if file {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, mode).map(drop)
    } else {
        mkdirat(parent, name, mode)
    };
    match made {
        // Another container that shares the volume made it at the same time.
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    samara_inside::in_root(root, path, flags | OFlags::PATH)
}

fn is_link(entry: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(entry)?.st_mode) == FileType::Symlink)
}

fn is_root(root: BorrowedFd<'_>, place: &OwnedFd) -> bool {
    match (fstat(root), fstat(place)) {
        (Ok(root), Ok(place)) => (root.st_dev, root.st_ino) == (place.st_dev, place.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    struct Image {
        outer: tempfile::TempDir,
    }

    impl Image {
        fn new() -> Self {
            let outer = tempfile::tempdir().unwrap();
            std::fs::create_dir(outer.path().join("root")).unwrap();
            Self { outer }
        }

        fn path(&self, inside: &str) -> PathBuf {
            self.outer.path().join("root").join(inside)
        }

        fn make(&self, destination: &str, directory: bool) -> Result<OwnedFd, ResolveError> {
            let root = std::fs::File::open(self.path("")).unwrap();
            open_or_make(root.as_fd(), Path::new(destination), directory)
        }

        fn names_outside(&self) -> Vec<OsString> {
            let entries = std::fs::read_dir(self.outer.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        }
    }

    #[test]
    fn missing_directories_are_made() {
        let image = Image::new();
        image.make("/var/run/secrets", true).unwrap();
        assert!(image.path("var/run/secrets").is_dir());
    }

    #[test]
    fn a_missing_file_is_made_with_the_directories_before_it() {
        let image = Image::new();
        image.make("/etc/app/config.toml", false).unwrap();
        assert!(image.path("etc/app/config.toml").is_file());
    }

    #[test]
    fn absolute_links_are_followed_inside_the_image() {
        let image = Image::new();
        std::fs::create_dir(image.path("var")).unwrap();
        symlink("/run", image.path("var/run")).unwrap();
        image.make("/var/run/secrets", true).unwrap();
        assert!(image.path("run/secrets").is_dir());
        assert_eq!(image.names_outside(), ["root"]);
    }

    #[test]
    fn links_out_of_the_image_lead_back_into_it() {
        let image = Image::new();
        symlink("../../../../outside", image.path("up")).unwrap();
        image.make("/up/data", true).unwrap();
        assert!(image.path("outside/data").is_dir());
        image.make("/../../sideways", true).unwrap();
        assert!(image.path("sideways").is_dir());
        assert_eq!(image.names_outside(), ["root"]);
    }

    #[test]
    fn links_in_a_circle_are_refused() {
        let image = Image::new();
        symlink("b", image.path("a")).unwrap();
        symlink("a", image.path("b")).unwrap();
        assert!(image.make("/a/data", true).is_err());
    }

    #[test]
    fn the_root_itself_is_refused_however_it_is_written() {
        let image = Image::new();
        symlink("/", image.path("here")).unwrap();
        for root in ["/", "", ".", "/..", "/here", "/missing/.."] {
            assert!(matches!(image.make(root, true), Err(ResolveError::Root)), "{root:?}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let image = Image::new();
        std::fs::write(image.path("file"), "").unwrap();
        let error = image.make("/file/below", true).unwrap_err();
        assert!(error.to_string().contains("/file/below"), "{error}");
    }
}
