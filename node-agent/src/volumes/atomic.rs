//! Files that change all at once (Kubernetes: `pkg/volume/util/atomic_writer.go`).
//!
//! ```text
//! volume/..2026-11-21T01.02.03.4/   the files of now
//! volume/..data -> ..2026-11-21T01.02.03.4
//! volume/key    -> ..data/key
//! ```
//! A new set is written beside the old one and `..data` is renamed over: a reader who opens `..data` once sees one set. Links
//! follow: one that cannot be made, because something is in its way, keeps nothing from the others.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path};

use samara_core::volumes::Files;

use super::directory::{self, DirectoryError};
use super::ownership::Ownership;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the volume hold these files and no others; `false` if it did already.
pub(super) fn write(volume: &Path, files: &Files, ownership: Ownership) -> Result<bool, DirectoryError> {
    let at = DirectoryError::at;
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&volume.join(old), files)
    {
        return link_names(volume, files).map(|()| false);
    }
    let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%N"));
    let new = volume.join(&name);
    directory::make(&new, 0o755)?;
    write_files(&new, files)?;
    ownership.apply(&new)?;

    let data = volume.join(NEW_DATA);
    remove_if_there(&data)?;
    symlink(&name, &data).map_err(at("link", &data))?;
    fs::rename(&data, volume.join(DATA)).map_err(at("rename", &data))?;
    remove_stale(volume, files)?;
    if let Some(old) = old {
        let old = volume.join(old);
        fs::remove_dir_all(&old).map_err(at("remove", &old))?;
    }
    link_names(volume, files).map(|()| true)
}

fn write_files(dir: &Path, files: &Files) -> Result<(), DirectoryError> {
    for (name, file) in files {
        let path = dir.join(name);
        // The rules do not let such names through; a file outside the volume would be the worst that could happen here.
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(DirectoryError::at("refuse to write", &path)(io::ErrorKind::InvalidFilename.into()));
        }
        if let Some(parent) = path.parent().filter(|parent| *parent != dir) {
            make_parents(dir, parent)?;
        }
        let at = DirectoryError::at("write", &path);
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(&at)?;
        io::Write::write_all(&mut out, &file.bytes).map_err(&at)?;
        out.set_permissions(fs::Permissions::from_mode(file.mode)).map_err(&at)?;
    }
    Ok(())
}

fn make_parents(dir: &Path, parent: &Path) -> Result<(), DirectoryError> {
    let mut path = dir.to_owned();
    for part in parent.strip_prefix(dir).unwrap_or(parent).components() {
        path.push(part);
        directory::make(&path, 0o755)?;
    }
    Ok(())
}

/// Links for the first part of each name: all that can be made; the first failure is given back.
fn link_names(volume: &Path, files: &Files) -> Result<(), DirectoryError> {
    let links = tops(files).into_iter().map(|name| (volume.join(name), Path::new(DATA).join(name)));
    let missing = links.filter(|(link, target)| fs::read_link(link).map_or(true, |there| there != *target));
    let made: Vec<_> =
        missing.map(|(link, target)| symlink(target, &link).map_err(DirectoryError::at("link", &link))).collect();
    made.into_iter().collect()
}

fn remove_stale(volume: &Path, files: &Files) -> Result<(), DirectoryError> {
    let tops = tops(files);
    for entry in fs::read_dir(volume).map_err(DirectoryError::at("read", volume))? {
        let entry = entry.map_err(DirectoryError::at("read", volume))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(DATA));
        if ours && !tops.contains(name.as_ref()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn tops(files: &Files) -> BTreeSet<&str> {
    files.keys().filter_map(|name| name.split('/').next()).collect()
}

fn remove_if_there(path: &Path) -> Result<(), DirectoryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DirectoryError::at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a set on disk is these files, with these contents.
fn holds(dir: &Path, files: &Files) -> bool {
    let same = files.iter().all(|(name, file)| fs::read(dir.join(name)).is_ok_and(|bytes| bytes == file.bytes));
    same && count(dir).is_ok_and(|count| count == files.len())
}

fn count(dir: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use samara_core::volumes::File;

    use super::*;

    fn files(all: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o640 };
        all.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect()
    }

    fn put(volume: &Path, all: &[(&str, &str)]) -> bool {
        write(volume, &files(all), Ownership::default()).unwrap()
    }

    fn names(volume: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.retain(|name| !name.starts_with("..2"));
        names
    }

    #[test]
    fn files_are_read_through_the_links_with_their_modes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(put(dir.path(), &[("key", "one"), ("sub/dir/key", "two")]));
        assert_eq!(fs::read_to_string(dir.path().join("key")).unwrap(), "one");
        assert_eq!(fs::read_to_string(dir.path().join("sub/dir/key")).unwrap(), "two");
        assert_eq!(fs::metadata(dir.path().join("key")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()), ["..data", "key", "sub"]);
    }

    #[test]
    fn an_update_swaps_all_at_once_and_leaves_nothing_of_the_old() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1"), ("b", "1")]);
        let seen_before = fs::canonicalize(dir.path().join("..data")).unwrap();
        assert!(put(dir.path(), &[("b", "2"), ("c/d", "2")]));
        assert!(!seen_before.exists());
        assert_eq!(names(dir.path()), ["..data", "b", "c"]);
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "2");
        let sets =
            fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir()).count();
        assert_eq!(sets, 1);
    }

    #[test]
    fn the_same_again_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1")]);
        let before = fs::read_link(dir.path().join("..data")).unwrap();
        assert!(!put(dir.path(), &[("a", "1")]));
        assert_eq!(fs::read_link(dir.path().join("..data")).unwrap(), before);
        assert!(put(dir.path(), &[]), "an empty set is a change");
        assert_eq!(names(dir.path()), ["..data"]);
    }

    #[test]
    fn a_write_that_was_cut_off_does_not_stop_the_next() {
        let dir = tempfile::tempdir().unwrap();
        symlink("..nowhere", dir.path().join(NEW_DATA)).unwrap();
        fs::create_dir(dir.path().join("..2026_cut_off")).unwrap();
        assert!(put(dir.path(), &[("a", "1")]));
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
    }

    #[test]
    fn what_is_in_the_way_of_one_name_keeps_nothing_from_the_others_and_is_complained_of() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1")]);
        fs::create_dir(dir.path().join("b")).unwrap();
        let more = files(&[("a", "2"), ("b", "2"), ("c", "2")]);
        for _ in 0..2 {
            let error = write(dir.path(), &more, Ownership::default()).unwrap_err();
            assert_eq!((error.operation, error.path), ("link", dir.path().join("b")));
            assert_eq!(["a", "c"].map(|name| fs::read_to_string(dir.path().join(name)).unwrap()), ["2", "2"]);
        }
        fs::remove_dir(dir.path().join("b")).unwrap();
        assert!(!write(dir.path(), &more, Ownership::default()).unwrap(), "the files were there");
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "2");
    }

    #[test]
    fn a_name_that_leads_outside_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        directory::make(&volume, 0o755).unwrap();
        for name in ["../escaped", "/tmp/escaped", "a/../../escaped"] {
            write(&volume, &files(&[(name, "x")]), Ownership::default()).expect_err(name);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
