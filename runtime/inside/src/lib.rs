//! Opens what a path that nobody vouches for names inside a directory, and nothing outside it; and removes a directory in which
//! somebody else could do as he liked.
//!
//! The kernel keeps the promise (`openat2`), however the directory is changed meanwhile. It does so by giving up, with
//! `EAGAIN`, when anything anywhere was renamed or mounted while it followed a `..`; a node mounts all the time, so the same is
//! asked again until it was not disturbed.
//!
//! `/proc/self/fd/1` and its like are followed by none of these.

mod removal;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub use removal::{remove_directory, remove_directory_at};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

/// One walk takes a few microseconds: this many are disturbed in turn only if somebody means it.
const MOST_TRIES: u32 = 1_000;

/// With `root` as `/`: of absolute links too, and `..` at its top stays there.
///
/// # Errors
/// `EAGAIN` if somebody renames or mounts without end; what `openat2` says otherwise.
pub fn in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    undisturbed(root, path.as_ref(), flags, ResolveFlags::IN_ROOT)
}

/// Below `directory`: a link or a `..` that leads out of it, and any absolute path, is `EXDEV`.
///
/// # Errors
/// As [`in_root`].
pub fn beneath(directory: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    undisturbed(directory, path.as_ref(), flags, ResolveFlags::BENEATH)
}

/// Below `directory`, where nothing on the way may be a link: those are `ELOOP`.
///
/// # Errors
/// As [`in_root`].
pub fn without_links(directory: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    undisturbed(directory, path.as_ref(), flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn undisturbed(directory: impl AsFd, path: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd> {
    let mut tries = 1;
    loop {
        let how = how | ResolveFlags::NO_MAGICLINKS;
        match openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) if tries < MOST_TRIES => tries += 1,
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    fn scene() -> (tempfile::TempDir, File) {
        let outer = tempfile::tempdir().expect("directory");
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a/b")).expect("directories");
        fs::write(root.join("file"), "").expect("file");
        fs::write(outer.path().join("outside"), "").expect("file");
        symlink("/file", root.join("a/absolute")).expect("link");
        symlink("../file", root.join("a/relative")).expect("link");
        symlink("../../outside", root.join("a/out")).expect("link");
        symlink("/proc/self/fd/0", root.join("a/magic")).expect("link");
        let root = File::open(root).expect("root");
        (outer, root)
    }

    #[test]
    fn each_kind_of_path_leads_where_it_may() {
        let (_outer, root) = scene();
        let (inside, away, missing, links) = (None, Some(Errno::XDEV), Some(Errno::NOENT), Some(Errno::LOOP));
        for (path, root_is_slash, below, no_links) in [
            ("file", inside, inside, inside),
            ("/file", inside, away, away),
            ("a/b/../../file", inside, inside, inside),
            ("../file", inside, away, away),
            ("a/absolute", inside, away, links),
            ("a/relative", inside, inside, links),
            ("a/out", missing, away, links),
            ("a/magic", missing, away, links),
        ] {
            assert_eq!(in_root(&root, path, OFlags::RDONLY).err(), root_is_slash, "{path} in root");
            assert_eq!(beneath(&root, path, OFlags::RDONLY).err(), below, "{path} beneath");
            assert_eq!(without_links(&root, path, OFlags::RDONLY).err(), no_links, "{path} without links");
        }
    }

    #[test]
    fn renames_elsewhere_do_not_disturb() {
        let (outer, root) = scene();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (here, there) = (outer.path().join("outside"), outer.path().join("elsewhere"));
                while !done.load(Relaxed) {
                    fs::rename(&here, &there).expect("there");
                    fs::rename(&there, &here).expect("back");
                }
            });
            let opened = (0..20_000).find_map(|_| in_root(&root, "a/b/../../file", OFlags::RDONLY).err());
            done.store(true, Relaxed);
            assert_eq!(opened, None);
        });
    }
}
