//! Mounts that hang nowhere yet: the container puts them in place in its own mount namespace, so the host's never grows.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, fstat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::{Files, OpenError, attributes};
use crate::front::outline::{Attributes, MountOutline, MountSource, Outline, Overlay, Propagation, RootOutline};
use crate::plan;

/// Root and mounts of a container, detached.
#[derive(Debug)]
pub(crate) struct Mounted {
    root: OwnedFd,
    /// In order, each with what it is.
    mounts: Vec<(MountOutline, OwnedFd)>,
}

/// Longest value that `fsconfig` takes as text.
const LONGEST_STRING: usize = 255;

impl Mounted {
    /// Opens all that the outline names.
    pub(crate) fn open(outline: &Outline) -> Result<Self, OpenError> {
        let root = match &outline.root {
            RootOutline::Overlay(overlay) => self::overlay(overlay)?,
            RootOutline::Directory { path, make } => {
                if *make {
                    std::fs::create_dir_all(path).map_err(OpenError::io("make", path))?;
                }
                let root = bind(path, Depth::All)?;
                set(&root, path, Attributes::default(), Propagation::Private)?;
                root
            }
            RootOutline::Mount(mount) => self::mount(mount)?,
        };
        let mounts = outline.mounts.iter().map(|outline| Ok((outline.clone(), mount(outline)?)));
        let mounts = mounts.collect::<Result<_, OpenError>>()?;
        Ok(Self { root, mounts })
    }

    /// The root.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The mount that covers `path` of the container, with the rest of the path: the last that was mounted wins.
    pub(crate) fn covering<'a>(&self, path: &'a Path) -> Option<(BorrowedFd<'_>, &'a Path)> {
        let mut mounts = self.mounts.iter().rev();
        mounts.find_map(|(outline, fd)| Some((fd.as_fd(), path.strip_prefix(&outline.destination).ok()?)))
    }

    pub(super) fn into_plan(self, read_only: bool, files: &mut Files) -> plan::Filesystem {
        let root = files.add(self.root);
        let mut mount = |(outline, fd): (MountOutline, OwnedFd)| {
            let directory = is_directory(fd.as_fd());
            plan::Mount { source: files.add(fd), destination: outline.destination, directory }
        };
        plan::Filesystem { root, read_only, mounts: self.mounts.into_iter().map(&mut mount).collect() }
    }
}

fn is_directory(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn mount(outline: &MountOutline) -> Result<OwnedFd, OpenError> {
    match &outline.source {
        MountSource::Bind { path, recursive, propagation } => {
            let tree = bind(path, if *recursive { Depth::All } else { Depth::One })?;
            set(&tree, path, outline.attributes, *propagation)?;
            Ok(tree)
        }
        MountSource::Tmpfs { options } => {
            let fs = Filesystem::open("tmpfs")?;
            fs.options(options)?;
            fs.mount(outline.attributes)
        }
        MountSource::Device { typ, source, options } => {
            let fs = Filesystem::open(typ)?;
            fs.set("source", source)?;
            fs.options(options)?;
            fs.mount(outline.attributes)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    One,
    All,
}

fn bind(path: &Path, depth: Depth) -> Result<OwnedFd, OpenError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::All {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).map_err(OpenError::io("bind", path))
}

fn set(tree: &OwnedFd, path: &Path, attributes: Attributes, propagation: Propagation) -> Result<(), OpenError> {
    attributes::set(tree.as_fd(), attributes, propagation).map_err(OpenError::io("set mount attributes of", path))
}

fn overlay(overlay: &Overlay) -> Result<OwnedFd, OpenError> {
    let fs = Filesystem::open("overlay")?;
    fs.layers(&overlay.lower)?;
    let mut attributes = Attributes::default();
    match &overlay.upper_and_work {
        Some((upper, work)) => {
            fs.set("upperdir", upper)?;
            fs.set("workdir", work)?;
        }
        None => attributes.read_only = true,
    }
    fs.options(&overlay.options)?;
    fs.mount(attributes)
}

/// Whether the kernel's overlay knows `lowerdir+`. It then looks for the directory at once; older kernels take any text for
/// an option and refuse it only when the file system is made.
fn takes_layers_one_by_one() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let probe = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC);
        probe.and_then(|fd| fsconfig_set_string(&fd, "lowerdir+", "/proc/self/no-such-layer")).is_err()
    })
}

/// A file system that is being configured.
struct Filesystem {
    fd: OwnedFd,
    typ: String,
}

impl Filesystem {
    fn open(typ: &str) -> Result<Self, OpenError> {
        let mount = |source: io::Error| OpenError::Mount { what: typ.into(), message: "open".into(), source };
        let fd = fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| mount(errno.into()))?;
        Ok(Self { fd, typ: typ.into() })
    }

    /// One call per layer, because one text for all of them holds about three. Kernels before 6.5 know only that text.
    fn layers(&self, lower: &[std::path::PathBuf]) -> Result<(), OpenError> {
        if takes_layers_one_by_one() {
            return lower.iter().try_for_each(|layer| self.set("lowerdir+", layer));
        }
        let escaped = lower.iter().map(|layer| layer.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:"));
        self.set("lowerdir", Path::new(&escaped.collect::<Vec<_>>().join(":")))
    }

    /// A path too long for text goes as an open directory (kernel 6.13 and newer).
    fn set(&self, key: &str, value: &Path) -> Result<(), OpenError> {
        let done = if value.as_os_str().as_bytes().len() <= LONGEST_STRING {
            fsconfig_set_string(&self.fd, key, value).map_err(io::Error::from)
        } else {
            let directory = std::fs::File::open(value).map_err(OpenError::io("open", value))?;
            fsconfig_set_fd(&self.fd, key, &directory).map_err(io::Error::from)
        };
        done.map_err(|error| self.error(format!("{key}={}", value.display()), error))
    }

    fn options(&self, options: &[(String, String)]) -> Result<(), OpenError> {
        for (key, value) in options {
            let done = match value.as_str() {
                "" => fsconfig_set_flag(&self.fd, key.as_str()),
                value => fsconfig_set_string(&self.fd, key.as_str(), value),
            };
            done.map_err(|errno| self.error(format!("{key}={value}"), errno.into()))?;
        }
        Ok(())
    }

    fn mount(self, attributes: Attributes) -> Result<OwnedFd, OpenError> {
        fsconfig_create(&self.fd).map_err(|errno| self.error("create", errno.into()))?;
        let mount = fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV);
        let mount = mount.map_err(|errno| self.error("mount", errno.into()))?;
        set(&mount, Path::new(&self.typ), attributes, Propagation::Private)?;
        Ok(mount)
    }

    /// The kernel says more than an errno through the configuration's own file.
    fn error(&self, step: impl Into<String>, source: io::Error) -> OpenError {
        let mut said = [0; 1024];
        let length = rustix::io::read(&self.fd, &mut said[..]).unwrap_or(0);
        let said = String::from_utf8_lossy(&said[..length]).trim().trim_start_matches("e ").to_owned();
        let message = if said.is_empty() { step.into() } else { format!("{}: {said}", step.into()) };
        OpenError::Mount { what: self.typ.clone(), message, source }
    }
}
