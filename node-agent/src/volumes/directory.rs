//! Directories made with exactly the mode that is asked for, and taken away with what is mounted in them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// A step on a volume's files failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct DirectoryError {
    pub(super) operation: &'static str,
    pub(super) path: PathBuf,
    #[source]
    pub(super) source: io::Error,
}

impl DirectoryError {
    pub(super) fn at<'a>(operation: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self { operation, path: path.to_owned(), source }
    }

    /// The error and its cause in one line.
    pub fn text(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Makes a directory and its parents (0750); the mode of the last does not depend on the umask. One that is there is kept.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    let result = fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
    result.map_err(DirectoryError::at("make directory", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(DirectoryError::at("set the mode of", path))
}

/// Removes a directory and all in it. Mounts below it are taken off first, so that nothing behind them is removed.
pub fn remove_tree(path: &Path) -> Result<(), DirectoryError> {
    for mount in mounts_below(path)? {
        unmount(&mount, UnmountFlags::DETACH).map_err(|error| DirectoryError::at("unmount", &mount)(error.into()))?;
    }
    // What guests made may be deeper than recursion could go.
    match samara_inside::remove_directory_at(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DirectoryError::at("remove", path)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Mount points at or below a path, innermost first.
fn mounts_below(path: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(DirectoryError::at("read", table))?;
    // The table has resolved paths.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut mounts: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|mount| mount.starts_with(&path))
        .collect();
    mounts.reverse();
    Ok(mounts)
}

/// Blanks, tabs, newlines and backslashes stand there as `\040` and so on.
fn unescape(text: &str) -> PathBuf {
    let mut rest = text;
    let mut path = String::new();
    while let Some((before, after)) = rest.split_once('\\') {
        path.push_str(before);
        match after.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                path.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                path.push('\\');
                rest = after;
            }
        }
    }
    path.push_str(rest);
    path.into()
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountFlags, mount};

    use super::*;

    #[test]
    fn what_is_behind_a_mount_survives_the_removal() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("precious"), "1").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("a tree");
        let (memory, bind) = (tree.join("memory"), tree.join("memory/bind"));
        make(&memory, 0o777).unwrap();
        mount("tmpfs", &memory, c"tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>).expect("these tests need root");
        make(&bind, 0o777).unwrap();
        rustix::mount::mount_bind(outside.path(), &bind).unwrap();

        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.path().join("precious")).unwrap(), "1");
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_mode_does_not_depend_on_the_umask_or_on_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/y");
        for mode in [0o777, 0o2770] {
            make(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn escapes_of_the_mount_table_are_read() {
        assert_eq!(unescape(r"/a\040b\134c"), PathBuf::from(r"/a b\c"));
        assert_eq!(unescape(r"/end\"), PathBuf::from(r"/end\"));
    }
}
