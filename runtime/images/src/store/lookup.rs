//! Finding a file by its path across layers, by overlay's rules, without mounting anything.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::error::{At as _, Operation, StoreError};
use crate::unpack::OPAQUE;

/// The kernel's own bound.
const MOST_LINKS: usize = 40;
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory as overlay shows it: the layers that contribute, highest first.
type Merged = Vec<OwnedFd>;

enum Found {
    Nothing,
    Directory(Merged),
    Link(OsString),
    File(OwnedFd),
}

/// Opens the regular file at `path`, following links inside the root. `None` if there is none.
pub(super) fn open(layers: &[PathBuf], path: &str) -> Result<Option<File>, StoreError> {
    let mut roots = Merged::new();
    for layer in layers.iter().rev() {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        roots.push(rustix::fs::open(layer, flags, Mode::empty()).at(Operation::Open, layer)?);
    }
    let failed = |error: Errno| Err::<Option<File>, _>(error).at(Operation::Open, OsStr::new(path).as_ref());
    let mut walked: Vec<Merged> = Vec::new();
    let mut ahead = parts(path.as_bytes());
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            walked.pop();
            continue;
        }
        let here = walked.last().unwrap_or(&roots);
        match step(here, &name) {
            Err(error) => return failed(error),
            Ok(Found::Nothing) => return Ok(None),
            Ok(Found::Directory(next)) => walked.push(next),
            Ok(Found::File(file)) => {
                return Ok(ahead.is_empty().then(|| File::from(file)));
            }
            Ok(Found::Link(target)) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(StoreError::Path(path.to_owned()));
                }
                if target.as_bytes().starts_with(b"/") {
                    walked.clear();
                }
                ahead.extend(parts(target.as_bytes()));
            }
        }
    }
    // The path ended at a directory.
    Ok(None)
}

/// Names of a path, last first.
fn parts(path: &[u8]) -> Vec<OsString> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.rev().map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

/// One name in a merged directory: the highest layer that has it decides, and directories of lower ones join until one is opaque or hidden.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is neither file, directory nor link is nothing here")]
fn step(here: &Merged, name: &OsStr) -> Result<Found, Errno> {
    let mut merged = Merged::new();
    for layer in here {
        let stat = match rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        };
        match FileType::from_raw_mode(stat.st_mode as RawMode) {
            FileType::Directory => {
                let directory = rustix::fs::openat(layer, name, DIRECTORY, Mode::empty())?;
                let opaque = is_opaque(&directory);
                merged.push(directory);
                if opaque {
                    break;
                }
            }
            _ if !merged.is_empty() => break,
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return rustix::fs::openat(layer, name, flags, Mode::empty()).map(Found::File);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(layer, name, Vec::new())?;
                return Ok(Found::Link(OsStr::from_bytes(target.as_bytes()).to_owned()));
            }
            // A whiteout; other kinds are never unpacked.
            _ => return Ok(Found::Nothing),
        }
    }
    match merged.is_empty() {
        true => Ok(Found::Nothing),
        false => Ok(Found::Directory(merged)),
    }
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::fgetxattr(directory.as_fd(), OPAQUE, &mut value), Ok(1) if value == *b"y")
}
