//! A file, a link or a directory with all in it, from one open directory into another. Nothing on the way is followed.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod, futimens, mkdirat,
    openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::root::readable;
use super::{Side, Source, Target};
use crate::tell::remark;

/// Deeper is a mistake, or malice.
pub(super) const DEEPEST: usize = 128;

/// What of a file's metadata is kept beside its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Permission bits.
    Modes,
    /// All bits of the mode, and owners.
    All,
}

/// Copies it.
pub(super) fn copy(source: &Source, target: &Target, keep: Keep) -> Result<()> {
    let mut copier = Copier { keep, side: target.side, path: PathBuf::from(&source.called) };
    copier.entry(source.dir.as_fd(), &source.name, target.dir.as_fd(), &target.name)
}

struct Copier {
    keep: Keep,
    side: Side,
    /// Where it is, for messages and the depth.
    path: PathBuf,
}

impl Copier {
    fn entry(&mut self, from: impl AsFd, name: &OsStr, to: impl AsFd, new: &OsStr) -> Result<()> {
        let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW).with_context(|| self.said("look at"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(from, name, to, new, &stat).with_context(|| self.said("copy")),
            FileType::Symlink => self.link(from, name, to, new).with_context(|| self.said("copy the link")),
            FileType::Directory => self.directory(from, name, to, new, &stat),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                remark(format_args!("{} is neither file, directory nor link: left out", self.path.display()));
                Ok(())
            }
        }
    }

    fn file(&self, from: impl AsFd, name: &OsStr, to: impl AsFd, new: &OsStr, stat: &Stat) -> Result<()> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut source = File::from(openat(&from, name, read, Mode::empty())?);
        if !source.metadata()?.is_file() {
            bail!("it was replaced meanwhile");
        }
        self.may_replace(&to, new)?;
        let mut target = create(&to, new)?;
        io::copy(&mut source, &mut target)?;
        self.finish(target.as_fd(), stat)
    }

    fn link(&self, from: impl AsFd, name: &OsStr, to: impl AsFd, new: &OsStr) -> Result<()> {
        let text = readlinkat(&from, name, Vec::new())?;
        self.may_replace(&to, new)?;
        remove_file(&to, new)?;
        Ok(symlinkat(text, &to, new)?)
    }

    /// Docker's rule for this machine: what is neither file, link nor directory is there for somebody, as `/dev/null` is.
    fn may_replace(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        if self.side == Side::Container {
            return Ok(());
        }
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::RegularFile | FileType::Symlink | FileType::Directory) | Err(Errno::NOENT) => Ok(()),
            Ok(
                FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown,
            ) => bail!("what has the name here is neither file nor directory, and is kept"),
            Err(error) => Err(error.into()),
        }
    }

    fn directory(&mut self, from: impl AsFd, name: &OsStr, to: impl AsFd, new: &OsStr, stat: &Stat) -> Result<()> {
        if self.path.components().count() > DEEPEST {
            bail!("{}: more than {DEEPEST} directories deep", self.path.display());
        }
        let source = open_directory(&from, name).with_context(|| self.said("open"))?;
        // Before anything is made: the target may be inside.
        let names = names(&source).with_context(|| self.said("read"))?;
        match mkdirat(&to, new, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(|| self.said("make")),
        }
        let target = open_directory(&to, new).with_context(|| self.said("make"))?;
        for name in names {
            self.path.push(&name);
            self.entry(&source, &name, &target, &name)?;
            self.path.pop();
        }
        let target = readable(&target)?;
        self.finish(target.as_fd(), stat).with_context(|| self.said("set the mode of"))
    }

    fn finish(&self, file: impl AsFd, stat: &Stat) -> Result<()> {
        let bits = if self.keep == Keep::All { 0o7777 } else { 0o777 };
        if self.keep == Keep::All {
            chown(&file, stat.st_uid, stat.st_gid)?;
        }
        fchmod(&file, Mode::from_raw_mode(stat.st_mode & bits))?;
        let modified = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
        Ok(futimens(&file, &Timestamps { last_access: modified, last_modification: modified })?)
    }

    fn said(&self, what: &str) -> String {
        format!("{what} {}", self.path.display())
    }
}

/// A new file in the place of whatever file or link has its name.
pub(super) fn create(dir: impl AsFd, name: &OsStr) -> Result<File> {
    remove_file(&dir, name)?;
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(&dir, name, new, Mode::RUSR | Mode::WUSR)?.into())
}

pub(super) fn remove_file(dir: impl AsFd, name: &OsStr) -> Result<()> {
    match unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => bail!("there is a directory of that name"),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn open_directory(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// All names in it but its own and its parent's.
pub(super) fn names(dir: &OwnedFd) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        let name = OsStr::from_bytes(name.to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn chown(file: impl AsFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    chownat(file, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    use super::*;

    fn copied(from: &Path, to: &Path) -> Result<()> {
        let source = Source::find_here(from, false)?;
        copy(&source, &Target::find(None, to, &source)?, Keep::Modes)
    }

    #[test]
    fn a_tree_is_copied_with_links_as_links_modes_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("/etc/passwd", from.join("a/link")).unwrap();
        nix::unistd::mkfifo(&from.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        copied(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "text");
        let (before, after) =
            (fs::metadata(from.join("a/b/file")).unwrap(), fs::metadata(to.join("a/b/file")).unwrap());
        assert_eq!((after.mode() & 0o7777, after.mtime()), (0o751, before.mtime()), "setuid is not carried along");
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("/etc/passwd"));
        assert!(!to.join("fifo").exists());
        // Into a directory that is there; what is in it; over what is there.
        copied(&from, &to).unwrap();
        assert!(to.join("from/a/b/file").is_file());
        copied(&from.join("a/."), &to).unwrap();
        assert!(to.join("b/file").is_file());
        fs::create_dir(dir.path().join("other")).unwrap();
        fs::write(dir.path().join("other/link"), "other").unwrap();
        copied(&dir.path().join("other/."), &to.join("a")).unwrap();
        assert!(fs::symlink_metadata(to.join("a/link")).unwrap().is_file(), "a link on the way is replaced");
    }

    #[test]
    fn a_link_that_is_named_is_written_through_and_what_is_no_file_is_kept_on_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("from")).unwrap();
        for name in ["from/file", "from/fifo", "old"] {
            fs::write(at(name), name).unwrap();
        }
        symlink("file", at("from/link")).unwrap();
        symlink("old", at("link")).unwrap();
        symlink("nothing", at("nowhere")).unwrap();
        let fifo = || nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU);
        fifo().unwrap();
        copied(&at("from/file"), &at("link")).unwrap();
        assert_eq!(fs::read_to_string(at("old")).unwrap(), "from/file");
        assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("old"));
        let nowhere = copied(&at("from/file"), &at("nowhere")).unwrap_err();
        assert!(format!("{nowhere:#}").contains("leads nowhere"), "{nowhere:#}");
        for (from, to) in [("from/file", "fifo"), ("from/link", "fifo"), ("from/fifo", ""), ("from/.", "")] {
            let kept = copied(&at(from), &at(to)).unwrap_err();
            assert!(format!("{kept:#}").contains("and is kept"), "{from}: {kept:#}");
            assert_eq!(fifo(), Err(nix::errno::Errno::EEXIST), "{from}");
        }
        // A container's own are its own.
        let source = Source::find_here(&at("from/file"), false).unwrap();
        let root = fs::File::open(dir.path()).unwrap().into();
        copy(&source, &Target::find(Some(&root), Path::new("/fifo"), &source).unwrap(), Keep::Modes).unwrap();
        assert!(at("fifo").is_file());
    }

    #[test]
    fn a_directory_can_be_copied_into_itself_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        copied(&dir.path().join("."), &dir.path().join("inside")).unwrap();
        assert!(dir.path().join("inside/file").is_file() && !dir.path().join("inside/inside").exists());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        let at = |name: &str| dir.path().join(name);
        for (from, to, says) in [
            ("dir", "file", "it is a file, and a directory is to be copied"),
            ("file", "none/", "there is no such directory"),
            ("file", "none/x", "is not there"),
            ("file/", "dir", "it is not a directory"),
            ("none", "dir", "No such file"),
        ] {
            let error = format!("{:#}", copied(&at(from), &at(to)).unwrap_err());
            assert!(error.contains(says), "{from} {to}: {error}");
        }
    }
}
