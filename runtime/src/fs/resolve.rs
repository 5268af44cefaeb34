//! Resolution of a path with a directory as its root: what `openat2` with `RESOLVE_IN_ROOT` would open, as a path
//! without symlinks.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::readlinkat;
use rustix::io::Errno;

/// Symlinks followed before it is a loop, as in the kernel.
const MOST_LINKS: usize = 40;

/// What to do when the last component is a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// Follow it: open, stat.
    Follow,
    /// It is what is meant: unlink, rename.
    Keep,
}

/// `path`, begun at `base`, as a path from `root`. Neither `base` nor the result has symlinks or `..` in it; components
/// that do not exist are kept as they are. The root itself is `.`.
///
/// Caveat: only true as long as nobody changes the directories. Whoever opens the result must make sure itself that it
/// stays inside the root.
pub(super) fn resolve(root: BorrowedFd<'_>, base: &Path, path: &Path, last: Last) -> io::Result<PathBuf> {
    let mut done = PathBuf::new();
    let mut links = 0;
    let mut todo: VecDeque<OsString> = VecDeque::new();
    if !path.is_absolute() {
        push_front(&mut todo, base);
    }
    push_back(&mut todo, path);
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&name);
        if todo.is_empty() && last == Last::Keep {
            done = next;
            break;
        }
        match readlinkat(root, &next, Vec::new()) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    done.clear();
                }
                push_front(&mut todo, &target);
            }
            // No symlink, or not there at all: what opens the result will say.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => done = next,
            Err(errno) => return Err(errno.into()),
        }
    }
    if done.as_os_str().is_empty() {
        done.push(".");
    }
    Ok(done)
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn push_back(todo: &mut VecDeque<OsString>, path: &Path) {
    todo.extend(names(path));
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    names(path).rev().for_each(|name| todo.push_front(name));
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("etc/alternatives")).unwrap();
            fs::create_dir_all(root.path().join("usr/bin")).unwrap();
            Self(root)
        }

        fn link(self, path: &str, target: &str) -> Self {
            symlink(target, self.0.path().join(path)).unwrap();
            self
        }

        fn resolve(&self, base: &str, path: &str, last: Last) -> io::Result<String> {
            let root = File::open(self.0.path()).unwrap();
            let resolved = resolve(root.as_fd(), Path::new(base), Path::new(path), last)?;
            Ok(resolved.into_os_string().into_string().unwrap())
        }

        #[track_caller]
        fn leads(&self, path: &str, expected: &str) -> &Self {
            assert_eq!(self.resolve("", path, Last::Follow).unwrap(), expected);
            self
        }
    }

    #[test]
    fn absolute_symlinks_begin_at_the_root() {
        Root::new()
            .link("usr/bin/editor", "/etc/alternatives/editor")
            .link("etc/alternatives/editor", "/usr/bin/vi")
            .leads("usr/bin/editor", "usr/bin/vi")
            .leads("/usr/bin/editor", "usr/bin/vi");
    }

    #[test]
    fn symlinks_in_the_middle_are_followed() {
        Root::new()
            .link("bin", "/usr/bin")
            .link("usr/lib", "../etc")
            .leads("bin/new", "usr/bin/new")
            .leads("usr/lib/alternatives", "etc/alternatives");
    }

    #[test]
    fn dots_never_lead_above_the_root() {
        Root::new()
            .link("usr/up", "../../../../etc")
            .leads("../../../etc", "etc")
            .leads("usr/up/alternatives", "etc/alternatives")
            .leads("/..", ".")
            .leads("", ".")
            .leads("usr/./bin/..", "usr");
    }

    #[test]
    fn a_relative_path_begins_at_its_directory_and_an_absolute_one_does_not() {
        let root = Root::new();
        assert_eq!(root.resolve("usr/bin", "../lib", Last::Follow).unwrap(), "usr/lib");
        assert_eq!(root.resolve("usr/bin", "/etc", Last::Follow).unwrap(), "etc");
    }

    #[test]
    fn the_last_symlink_is_kept_where_it_is_what_is_meant() {
        let root = Root::new().link("bin", "/usr/bin").link("usr/bin/vi", "/nowhere");
        assert_eq!(root.resolve("", "bin/vi", Last::Keep).unwrap(), "usr/bin/vi");
        assert_eq!(root.resolve("", "bin/vi", Last::Follow).unwrap(), "nowhere");
    }

    #[test]
    fn a_loop_of_symlinks_is_an_error() {
        let root = Root::new().link("one", "/two").link("two", "/one");
        let error = root.resolve("", "one", Last::Follow).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::LOOP));
    }
}
