//! The layer's directory, and what can be done in it. The kernel keeps every path inside.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use samara_inside::remove_directory;
use thiserror::Error;

/// What an entry has beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since the epoch.
    pub(super) modified: i64,
}

/// Attribute by which overlay knows that a directory hides all below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// The kernel's own bound.
const MOST_LINKS: usize = 40;
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);
/// Read, write, search and sticky; setuid and setgid are dropped.
const KEPT_MODE: u32 = 0o1777;

/// Why something could not be made.
#[derive(Debug, Error)]
pub(super) enum TreeError {
    /// What the kernel said.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It would be more than this.
    #[error("more than {0} entries")]
    TooMany(u64),
}

impl From<Errno> for TreeError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// A directory tree under one root.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// How much may be made, and how much was.
    most: u64,
    made: u64,
    /// Owners can be given only by root; elsewhere files belong to who unpacks.
    may_chown: bool,
    /// Archives list the entries of a directory one after another.
    last: Option<(Vec<OsString>, Rc<OwnedFd>)>,
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Nothing,
    Directory,
    /// A whiteout that this layer made.
    Whiteout,
    Other,
}

impl Tree {
    /// Over an empty directory, in which no more than `most` will be made.
    pub(super) fn new(root: OwnedFd, most: u64) -> Self {
        let may_chown = rustix::process::geteuid().is_root();
        Self { root: Rc::new(root), most, made: 0, may_chown, last: None }
    }

    /// One more: an entry of the archive, or a directory that an entry's path needs and no entry has named before.
    pub(super) fn count(&mut self) -> Result<(), TreeError> {
        self.made += 1;
        match self.made > self.most {
            true => Err(TreeError::TooMany(self.most)),
            false => Ok(()),
        }
    }

    /// Gives the root directory its attributes.
    pub(super) fn set_root(&self, attributes: Attributes) -> io::Result<()> {
        self.set_directory(self.root.as_fd(), attributes)
    }

    /// Makes a directory, or gives an existing one new attributes.
    pub(super) fn make_directory(
        &mut self,
        parents: &[OsString],
        name: &OsStr,
        attributes: Attributes,
    ) -> Result<(), TreeError> {
        let parent = self.directory(parents)?;
        let before = standing(&parent, name)?;
        if before != Standing::Directory {
            self.clear(&parent, name, before)?;
            rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
        }
        let directory = rustix::fs::openat(&parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        if before == Standing::Whiteout {
            set_opaque(directory.as_fd())?;
        }
        Ok(self.set_directory(directory.as_fd(), attributes)?)
    }

    /// Makes a file of all that `content` gives.
    pub(super) fn make_file(
        &mut self,
        parents: &[OsString],
        name: &OsStr,
        attributes: Attributes,
        content: &mut dyn Read,
    ) -> Result<u64, TreeError> {
        let parent = self.directory(parents)?;
        self.clear(&parent, name, standing(&parent, name)?)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(file);
        let count = io::copy(content, &mut file)?;
        if self.may_chown {
            rustix::fs::fchown(&file, owner(attributes.uid), group(attributes.gid))?;
        }
        rustix::fs::fchmod(&file, mode(attributes))?;
        rustix::fs::futimens(&file, &times(attributes))?;
        Ok(count)
    }

    /// Makes a symbolic link. What it points at is nobody's business until a container resolves it in its own root.
    pub(super) fn make_symlink(
        &mut self,
        parents: &[OsString],
        name: &OsStr,
        attributes: Attributes,
        target: &OsStr,
    ) -> Result<(), TreeError> {
        let parent = self.directory(parents)?;
        self.clear(&parent, name, standing(&parent, name)?)?;
        rustix::fs::symlinkat(target, &parent, name)?;
        if self.may_chown {
            let (uid, gid) = (owner(attributes.uid), group(attributes.gid));
            rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(&parent, name, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a second name for a file (or symbolic link) of this layer.
    pub(super) fn make_hard_link(
        &mut self,
        parents: &[OsString],
        name: &OsStr,
        (target_parents, target_name): (&[OsString], &OsStr),
    ) -> Result<(), TreeError> {
        let target_parent = self.directory(target_parents)?;
        match standing(&target_parent, target_name)? {
            Standing::Other => {}
            Standing::Nothing | Standing::Whiteout => return Err(Errno::NOENT.into()),
            Standing::Directory => return Err(Errno::ISDIR.into()),
        }
        let parent = self.directory(parents)?;
        let same = (parents, name) == (target_parents, target_name);
        if !same {
            self.clear(&parent, name, standing(&parent, name)?)?;
            rustix::fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Hides a name of the layers below. What this layer itself has there stays, and hides by standing there.
    pub(super) fn make_whiteout(&mut self, parents: &[OsString], name: &OsStr) -> Result<(), TreeError> {
        let parent = self.directory(parents)?;
        match standing(&parent, name)? {
            Standing::Nothing => {
                let device = rustix::fs::makedev(0, 0);
                Ok(rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), device)?)
            }
            Standing::Directory => {
                let directory = rustix::fs::openat(&parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                Ok(set_opaque(directory.as_fd())?)
            }
            Standing::Whiteout | Standing::Other => Ok(()),
        }
    }

    /// Hides all that the layers below have in a directory.
    pub(super) fn make_opaque(&mut self, path: &[OsString]) -> Result<(), TreeError> {
        let directory = self.directory(path)?;
        Ok(set_opaque(directory.as_fd())?)
    }

    /// Opens a directory, making what is missing of its path.
    fn directory(&mut self, path: &[OsString]) -> Result<Rc<OwnedFd>, TreeError> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let joined = path.join(OsStr::new("/"));
        let opened = samara_inside::in_root(&self.root, joined, DIRECTORY);
        let directory = Rc::new(match opened {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_path(path)?,
            other => other?,
        });
        self.last = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    /// Walks a path as a process with this root would, and makes what is not there; also where a link points to, since it
    /// may point to a directory of a layer below.
    fn make_path(&mut self, path: &[OsString]) -> Result<OwnedFd, TreeError> {
        let mut walked: Vec<OsString> = Vec::new();
        let mut ahead: Vec<OsString> = path.iter().rev().cloned().collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                walked.pop();
                continue;
            }
            let directory = self.open_walked(&walked)?;
            let before = standing(&directory, &name)?;
            if before == Standing::Directory {
                walked.push(name);
                continue;
            }
            if let Ok(target) = rustix::fs::readlinkat(&directory, &name, Vec::new()) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.as_bytes().starts_with(b"/") {
                    walked.clear();
                }
                let parts = target.as_bytes().split(|byte| *byte == b'/');
                let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                ahead.extend(parts.rev().map(|part| OsStr::from_bytes(part).to_owned()));
                continue;
            }
            self.count()?;
            self.clear(&directory, &name, before)?;
            rustix::fs::mkdirat(&directory, &name, Mode::RWXU)?;
            walked.push(name);
            let made = self.open_walked(&walked)?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
            if before == Standing::Whiteout {
                set_opaque(made.as_fd())?;
            }
        }
        Ok(self.open_walked(&walked)?)
    }

    /// Opens directories which were seen to be such: the kernel refuses to follow a link that took the place of one.
    fn open_walked(&self, walked: &[OsString]) -> io::Result<OwnedFd> {
        if walked.is_empty() {
            return self.root.try_clone();
        }
        let joined = walked.join(OsStr::new("/"));
        Ok(samara_inside::without_links(&self.root, joined, DIRECTORY)?)
    }

    /// Removes what stands in the way. A directory goes with all that is in it: the later entry counts.
    fn clear(&mut self, parent: &OwnedFd, name: &OsStr, standing: Standing) -> io::Result<()> {
        if standing != Standing::Nothing {
            // The directory that is kept open may have been in it.
            self.last = None;
        }
        match standing {
            Standing::Nothing => Ok(()),
            Standing::Whiteout | Standing::Other => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
            Standing::Directory => remove_directory(parent.as_fd(), name).map(drop),
        }
    }

    fn set_directory(&self, directory: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
        if self.may_chown {
            rustix::fs::fchown(directory, owner(attributes.uid), group(attributes.gid))?;
        }
        Ok(rustix::fs::fchmod(directory, mode(attributes))?)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "two kinds of files matter to what comes over them")]
fn standing(parent: &OwnedFd, name: &OsStr) -> io::Result<Standing> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(Standing::Nothing),
        Err(error) => Err(error.into()),
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode as RawMode) {
            FileType::Directory => Standing::Directory,
            FileType::CharacterDevice => Standing::Whiteout,
            _ => Standing::Other,
        }),
    }
}

fn set_opaque(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

fn mode(attributes: Attributes) -> Mode {
    Mode::from_raw_mode(attributes.mode & KEPT_MODE)
}

fn times(attributes: Attributes) -> Timestamps {
    let time = Timespec { tv_sec: attributes.modified, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn owner(uid: u32) -> Option<Uid> {
    Some(Uid::from_raw(uid))
}

fn group(gid: u32) -> Option<Gid> {
    Some(Gid::from_raw(gid))
}
