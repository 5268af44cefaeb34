//! The same as a tar archive, on standard output or from standard input.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, futimens, linkat, mkdirat, openat, readlinkat, statat,
    symlinkat,
};
use rustix::io::Errno;
use tar::{Archive, Builder, EntryType, Header};

use super::Source;
use super::tree::{DEEPEST, Keep, chown, create, names, open_directory, remove_file};
use crate::tell::remark;

/// Writes an archive of it; names begin with its own, or with `.` for what is in it.
pub(super) fn write(source: &Source, out: impl Write) -> Result<()> {
    let mut archive = Builder::new(out);
    let root = if source.contents { PathBuf::from(".") } else { PathBuf::from(&source.called) };
    let done = add(&mut archive, source.dir.as_fd(), &source.name, &root).and_then(|()| Ok(archive.finish()?));
    match done {
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

fn add(archive: &mut Builder<impl Write>, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    let said = || format!("add {}", path.display());
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).with_context(said)?;
    let mut header = header(&stat);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(dir, name, read, Mode::empty()).with_context(said)?);
            let size = file.metadata()?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            // One that grows or shrinks meanwhile must not shift what comes after it.
            let padded = file.take(size).chain(io::repeat(0)).take(size);
            archive.append_data(&mut header, path, padded).with_context(said)
        }
        FileType::Symlink => {
            let text = readlinkat(dir, name, Vec::new()).with_context(said)?;
            header.set_entry_type(EntryType::Symlink);
            let text = text.to_string_lossy().into_owned();
            archive.append_link(&mut header, path, text).with_context(said)
        }
        FileType::Directory => {
            if path.components().count() > DEEPEST {
                bail!("{}: more than {DEEPEST} directories deep", path.display());
            }
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, path, io::empty()).with_context(said)?;
            let inside: OwnedFd = open_directory(dir, name).with_context(said)?;
            for name in names(&inside)? {
                add(archive, inside.as_fd(), &name, &path.join(&name))?;
            }
            Ok(())
        }
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            remark(format_args!("{} is neither file, directory nor link: left out", path.display()));
            Ok(())
        }
    }
}

fn header(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

/// Unpacks an archive into a directory. A name that leads out of it, or through a link, ends it.
pub(super) fn read(archive: impl Read, into: BorrowedFd<'_>, keep: Keep) -> Result<()> {
    // What comes into a directory changes its time, so theirs are set last.
    let mut times = Vec::new();
    for entry in Archive::new(archive).entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let path = entry.path().context("read the archive")?.into_owned();
        let kind = entry.header().entry_type();
        let said = || format!("unpack {}", path.display());
        let (dir, name) = parent(into, &path).with_context(said)?;
        let Some(name) = name else { continue };
        let mode = entry.header().mode().unwrap_or(0o644) & if keep == Keep::All { 0o7777 } else { 0o777 };
        let modified = modified(entry.header());
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let mut file = create(&dir, &name).with_context(said)?;
            io::copy(&mut entry, &mut file).with_context(said)?;
            if keep == Keep::All {
                chown(&file, id(entry.header().uid())?, id(entry.header().gid())?).with_context(said)?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).with_context(said)?;
            if let Some(modified) = modified {
                futimens(&file, &modified).with_context(said)?;
            }
        } else if kind.is_dir() {
            make(&dir, &name).with_context(said)?;
            let made = open_directory(&dir, &name).with_context(said)?;
            if keep == Keep::All {
                chown(&made, id(entry.header().uid())?, id(entry.header().gid())?).with_context(said)?;
            }
            rustix::fs::fchmod(&made, Mode::from_raw_mode(mode | 0o700)).with_context(said)?;
            times.extend(modified.map(|modified| (path.clone(), modified)));
        } else if kind.is_symlink() || kind.is_hard_link() {
            let to = entry.link_name().context("read the archive")?.context("a link without a target")?.into_owned();
            remove_file(&dir, &name).with_context(said)?;
            if kind.is_symlink() {
                symlinkat(to.as_os_str(), &dir, &name).with_context(said)?;
            } else {
                let (there, target) = parent(into, &to).with_context(said)?;
                let target = target.context("a link to the directory itself")?;
                linkat(&there, &target, &dir, &name, AtFlags::empty()).with_context(said)?;
            }
        } else {
            remark(format_args!("{}: entries of the kind {kind:?} are left out", path.display()));
        }
    }
    for (path, modified) in times {
        let said = || format!("set the time of {}", path.display());
        let (dir, name) = parent(into, &path).with_context(said)?;
        let directory = open_directory(&dir, name.as_deref().unwrap_or(OsStr::new("."))).with_context(said)?;
        futimens(&directory, &modified).with_context(said)?;
    }
    Ok(())
}

/// None if it is no time, as one before 1970 is none.
fn modified(header: &Header) -> Option<Timestamps> {
    let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok())?;
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Some(Timestamps { last_access: time, last_modification: time })
}

/// The directory that an entry goes into, made if it is missing, and its name in it; none for the directory itself.
fn parent(into: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, Option<std::ffi::OsString>)> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => bail!("its name leads out of the directory"),
        }
    }
    let last = names.pop();
    let mut dir = open_directory(into, OsStr::new("."))?;
    for name in names {
        make(&dir, &name)?;
        // Not through a link, which an earlier entry may have made.
        dir = open_directory(&dir, &name)?;
    }
    Ok((dir, last))
}

fn make(dir: impl AsFd, name: &OsStr) -> Result<()> {
    match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn id(value: io::Result<u64>) -> Result<u32> {
    u32::try_from(value.context("read the archive")?).context("an owner's number is too large")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn unpacked(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> (tempfile::TempDir, Result<()>) {
        let mut archive = Builder::new(Vec::new());
        build(&mut archive);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("into")).unwrap();
        let into = File::open(dir.path().join("into")).unwrap();
        let done = read(&archive.into_inner().unwrap()[..], into.as_fd(), Keep::Modes);
        (dir, done)
    }

    fn raw(archive: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        archive.append(&header, io::empty()).unwrap();
    }

    #[test]
    fn what_is_written_is_read_back() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", from.path().join("d/link")).unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        for name in ["d/file", "d"] {
            File::open(from.path().join(name)).unwrap().set_modified(old).unwrap();
        }
        let source = Source::find_here(&from.path().join("d"), false).unwrap();
        let mut bytes = Vec::new();
        write(&source, &mut bytes).unwrap();
        let to = tempfile::tempdir().unwrap();
        read(&bytes[..], File::open(to.path()).unwrap().as_fd(), Keep::Modes).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("d/link")).unwrap(), "text");
        for name in ["d/file", "d"] {
            assert_eq!(fs::metadata(to.path().join(name)).unwrap().modified().unwrap(), old, "{name}");
        }
    }

    #[test]
    fn a_tree_deeper_than_any_that_is_meant_is_an_error() {
        let from = tempfile::tempdir().unwrap();
        let tree = from.path().join("tree");
        fs::create_dir_all(tree.join("d/".repeat(DEEPEST - 1))).unwrap();
        let source = Source::find_here(&tree, false).unwrap();
        write(&source, io::sink()).unwrap();
        fs::create_dir(tree.join("d/".repeat(DEEPEST))).unwrap();
        let error = write(&source, io::sink()).unwrap_err().to_string();
        assert!(error.ends_with(": more than 128 directories deep"), "{error}");
    }

    #[test]
    fn an_archive_does_not_lead_out_of_the_directory() {
        let (dir, done) = unpacked(|archive| raw(archive, "../out", EntryType::Regular, ""));
        assert!(done.is_err() && !dir.path().join("out").exists());
        let (dir, done) = unpacked(|archive| {
            raw(archive, "link", EntryType::Symlink, "..");
            raw(archive, "link/out", EntryType::Regular, "");
        });
        assert!(done.is_err() && !dir.path().join("out").exists());
        let (dir, done) = unpacked(|archive| {
            raw(archive, "file", EntryType::Symlink, "../out");
            raw(archive, "file", EntryType::Regular, "");
        });
        done.unwrap();
        assert!(!dir.path().join("out").exists(), "the link was replaced");
        let (dir, done) = unpacked(|archive| raw(archive, "/abs", EntryType::Regular, ""));
        done.unwrap();
        assert!(dir.path().join("into/abs").is_file());
        let (dir, done) = unpacked(|archive| {
            raw(archive, "file", EntryType::Regular, "");
            raw(archive, "hard", EntryType::Link, "file");
            raw(archive, "out", EntryType::Link, "../file");
        });
        assert!(done.is_err() && dir.path().join("into/hard").is_file() && !dir.path().join("into/out").exists());
        let (_, done) = unpacked(|archive| raw(archive, "dev", EntryType::Char, ""));
        done.unwrap();
    }
}
