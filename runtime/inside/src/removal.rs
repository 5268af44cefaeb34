//! Removing a directory with all that is in it, however deep. What is in it was made of an image, or by a
//! guest: a hostile one may be deeper than a process has stack or open files, so there is no recursion, and two directories are open
//! at a time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Names of one directory that are held at a time, so that a wide one needs no more memory than others.
const MOST_HELD: usize = 256;

/// Removes a directory, and returns how many bytes its files had. A link to one is none.
///
/// # Errors
/// As [`remove_directory`].
pub fn remove_directory_at(path: &Path) -> io::Result<u64> {
    remove_directory(CWD, path.as_os_str())
}

/// The same, of a name in an open directory. Nobody else may be changing it.
///
/// # Errors
/// What the kernel says of the first that cannot be removed, and when a directory is moved meanwhile. What is left may be removed
/// by another call.
pub fn remove_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<u64> {
    let mut bytes = 0;
    let mut here = open(parent, name)?;
    let mut level = Level::new(name, &here)?;
    let mut above: Vec<Level> = Vec::new();
    loop {
        if level.below.is_empty() {
            level.below = remove_files(&here, &mut bytes)?;
        }
        if let Some(name) = level.below.pop() {
            here = open(here.as_fd(), &name)?;
            let next = Level::new(&name, &here)?;
            above.push(mem::replace(&mut level, next));
            continue;
        }
        let Some(next) = above.pop() else {
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            return Ok(bytes);
        };
        here = open(here.as_fd(), OsStr::new(".."))?;
        if identity(&here)? != next.identity {
            return Err(io::Error::other("a directory was moved while it was removed"));
        }
        rustix::fs::unlinkat(&here, &level.name, AtFlags::REMOVEDIR)?;
        level = next;
    }
}

/// A directory on the way from the one to be removed to the one in hand.
struct Level {
    name: OsString,
    /// Device and inode: `..` has to lead back to it.
    identity: (u64, u64),
    /// Some of the directories in it.
    below: Vec<OsString>,
}

impl Level {
    fn new(name: &OsStr, directory: &OwnedFd) -> io::Result<Self> {
        Ok(Self { name: name.to_owned(), identity: identity(directory)?, below: Vec::new() })
    }
}

/// Removes all but directories, of which it returns some, or none if there is none.
fn remove_files(directory: &OwnedFd, bytes: &mut u64) -> io::Result<Vec<OsString>> {
    let mut below = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let about = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(about.st_mode) == FileType::Directory {
            below.push(name.to_owned());
            if below.len() == MOST_HELD {
                break;
            }
            continue;
        }
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        *bytes += u64::try_from(about.st_size).unwrap_or_default();
    }
    Ok(below)
}

fn open(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?)
}

fn identity(directory: &OwnedFd) -> io::Result<(u64, u64)> {
    let about = rustix::fs::fstat(directory)?;
    Ok((about.st_dev, about.st_ino))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn all_below_goes_and_what_links_point_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, other) = (directory.path().join("tree"), directory.path().join("other"));
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "kept").unwrap();
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::os::unix::fs::symlink(&other, tree.join("a/link")).unwrap();
        fs::write(tree.join("a/b/file"), [0; 100]).unwrap();
        // More than are held at a time, with something in each.
        for number in 0..2 * MOST_HELD + 1 {
            fs::create_dir_all(tree.join(format!("wide/{number}/in"))).unwrap();
            fs::write(tree.join(format!("wide/{number}/in/file")), [0; 3]).unwrap();
        }
        let link = other.as_os_str().len() as u64;
        assert_eq!(remove_directory_at(&tree).unwrap(), 100 + link + 3 * (2 * MOST_HELD as u64 + 1));
        assert!(!tree.exists());
        assert_eq!(fs::read(other.join("kept")).unwrap(), b"kept");
    }

    /// Renamed into each other from the inside, as a guest can do it: no path of it need be long.
    #[test]
    fn a_tree_deeper_than_the_stack_of_a_thread_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("tree")).unwrap();
        for _ in 0..20_000 {
            fs::create_dir(path("above")).unwrap();
            fs::rename(path("tree"), path("above/d")).unwrap();
            fs::rename(path("above"), path("tree")).unwrap();
        }
        // As large as a runtime's threads are.
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        let tree = path("tree");
        thread.spawn(move || remove_directory_at(&tree).unwrap()).unwrap().join().unwrap();
        assert!(!path("tree").exists());
    }

    #[test]
    fn what_is_no_directory_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        for path in [&file, &link, &directory.path().join("none")] {
            assert!(remove_directory_at(path).is_err(), "{}", path.display());
        }
        assert!(file.exists() && link.is_symlink());
    }
}
