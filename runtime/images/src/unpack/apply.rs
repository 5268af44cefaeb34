//! Entry by entry: what the archive says, done in the tree.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;

use tar::EntryType;

use super::input::Input;
use super::path::{EntryPath, Meaning, show};
use super::tree::{Attributes, Tree, TreeError};
use super::{UnpackError, UnpackLimits, Unpacked};

/// `u32::MAX` means "leave as it is" to chown, so it can be nobody's number.
const LARGEST_ID: u64 = u32::MAX as u64 - 1;

pub(super) fn apply(input: &Input, mut tree: Tree, limits: UnpackLimits) -> Result<Unpacked, UnpackError> {
    let mut archive = tar::Archive::new(input);
    let mut entries = archive.entries().map_err(|error| input.explain(error))?;
    let mut unpacked = Unpacked::default();
    loop {
        input.expect_header();
        let Some(entry) = entries.next() else { return Ok(unpacked) };
        let mut entry = entry.map_err(|error| input.explain(error))?;
        unpacked.entries += 1;
        input.expect_content();
        let left = limits.bytes - unpacked.bytes;
        match one(&mut entry, &mut tree, left)? {
            Done::Made(bytes) => unpacked.bytes += bytes,
            Done::Skipped => unpacked.skipped += 1,
            Done::TooLong => return Err(UnpackError::TooManyBytes(limits.bytes)),
            Done::Unreadable(error) => return Err(input.explain(error)),
        }
        // What is left of it is read here, where its length is bounded by the header, so that the next header's bound holds.
        let rest = limits.bytes.saturating_sub(unpacked.bytes).saturating_add(1);
        let drained = io::copy(&mut (&mut entry).take(rest), &mut io::sink());
        if drained.map_err(|error| input.explain(error))? == rest {
            return Err(UnpackError::TooManyBytes(limits.bytes));
        }
    }
}

enum Done {
    Made(u64),
    Skipped,
    TooLong,
    Unreadable(io::Error),
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of the kinds of tar entries these can be made")]
fn one<R: Read>(entry: &mut tar::Entry<'_, R>, tree: &mut Tree, left: u64) -> Result<Done, UnpackError> {
    let raw = entry.path_bytes().into_owned();
    let failed = |error: TreeError| match error {
        TreeError::Io(cause) => UnpackError::Write { path: show(&raw), cause },
        TreeError::TooMany(most) => UnpackError::TooManyEntries(most),
    };
    tree.count().map_err(failed)?;
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        return Ok(Done::Skipped);
    }
    let path = match EntryPath::clean(&raw)?.meaning()? {
        Meaning::Make(path) => path,
        Meaning::Ignore => return Ok(Done::Skipped),
        Meaning::Root => {
            if kind.is_dir() {
                tree.set_root(attributes(entry, &raw)?).map_err(|error| failed(error.into()))?;
            }
            return Ok(Done::Made(0));
        }
        Meaning::Opaque(path) => return tree.make_opaque(path.names()).map(|()| Done::Made(0)).map_err(failed),
        Meaning::Whiteout(path) => {
            let Some((parents, name)) = path.split() else { return Ok(Done::Skipped) };
            return tree.make_whiteout(parents, name).map(|()| Done::Made(0)).map_err(failed);
        }
    };
    let Some((parents, name)) = path.split() else { return Ok(Done::Skipped) };
    // Old archives mark a directory by its trailing slash only.
    let is_directory = kind.is_dir() || (kind == EntryType::Regular && raw.ends_with(b"/"));
    if is_directory {
        let attributes = attributes(entry, &raw)?;
        tree.make_directory(parents, name, attributes).map_err(failed)?;
        return Ok(Done::Made(0));
    }
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let attributes = attributes(entry, &raw)?;
            let mut content = Content { entry, left, failure: None };
            let made = tree.make_file(parents, name, attributes, &mut content);
            let failure = content.failure.take();
            match (failure, made) {
                (Some(ContentFailure::TooLong), _) => Ok(Done::TooLong),
                (Some(ContentFailure::Unreadable(error)), _) => Ok(Done::Unreadable(error)),
                (None, made) => made.map(Done::Made).map_err(failed),
            }
        }
        EntryType::Symlink => {
            let target = link_name(entry, &raw)?;
            let attributes = attributes(entry, &raw)?;
            let target = OsStr::from_bytes(&target);
            tree.make_symlink(parents, name, attributes, target).map(|()| Done::Made(0)).map_err(failed)
        }
        EntryType::Link => {
            let target = EntryPath::clean(&link_name(entry, &raw)?)?;
            let Some(target) = target.split() else {
                return Err(UnpackError::Entry { path: show(&raw), problem: "is a hard link to the root".to_owned() });
            };
            tree.make_hard_link(parents, name, target).map(|()| Done::Made(0)).map_err(failed)
        }
        _ => Ok(Done::Skipped),
    }
}

fn attributes<R: Read>(entry: &tar::Entry<'_, R>, raw: &[u8]) -> Result<Attributes, UnpackError> {
    let wrong = |what: &str| UnpackError::Entry { path: show(raw), problem: format!("has an invalid {what}") };
    // A field that was left blank is 0, as other readers have it.
    let number = |field: &[u8], number: io::Result<u64>, what: &str| match number {
        Ok(number) => Ok(number),
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
        Err(_) => Err(wrong(what)),
    };
    let id = |field: &[u8], id: io::Result<u64>, what: &str| match number(field, id, what)? {
        id if id <= LARGEST_ID => Ok(id as u32),
        _ => Err(wrong(what)),
    };
    let header = entry.header();
    let old = header.as_old();
    Ok(Attributes {
        mode: number(&old.mode, header.mode().map(u64::from), "mode")? as u32,
        uid: id(&old.uid, header.uid(), "owner")?,
        gid: id(&old.gid, header.gid(), "group")?,
        // A time no one can have meant is no reason to refuse an image.
        modified: header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
    })
}

fn link_name<R: Read>(entry: &tar::Entry<'_, R>, raw: &[u8]) -> Result<Vec<u8>, UnpackError> {
    match entry.link_name_bytes() {
        Some(target) if !target.is_empty() => Ok(target.into_owned()),
        _ => Err(UnpackError::Entry { path: show(raw), problem: "is a link to nothing".to_owned() }),
    }
}

/// An entry's content, bounded, that tells its own failures from those of writing.
struct Content<'a, 'b, R: Read> {
    entry: &'a mut tar::Entry<'b, R>,
    left: u64,
    failure: Option<ContentFailure>,
}

enum ContentFailure {
    TooLong,
    Unreadable(io::Error),
}

impl<R: Read> Read for Content<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.entry.read(buffer) {
            Ok(count) => count as u64,
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.failure = Some(ContentFailure::Unreadable(error));
                return Err(copy);
            }
        };
        if count > self.left {
            self.failure = Some(ContentFailure::TooLong);
            return Err(io::Error::other("too long"));
        }
        self.left -= count;
        Ok(count as usize)
    }
}
