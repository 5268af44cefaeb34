//! `samara cp`: files between this machine and a container, through the container's root.
//!
//! On the container's side no path leads out of its root, whatever links it has put there: the way to the file is resolved
//! with `openat2`, and below it only plain names are opened, none of them followed.

mod root;
mod stream;
mod tree;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::fs::{AtFlags, CWD, FileType, OFlags, statat};

use crate::container::Shelf;
use crate::place::{Place, must_be_root};

/// What `samara cp` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara cp web:/var/log/app.log .
  samara cp config.toml web:/etc/app/
  samara cp ./site/. web:/srv                 # what is in it, not the directory itself
  samara cp web:/data - | tar tv              # as a tar archive

A running container and a stopped one serve alike; of a stopped one named volumes and host directories are seen too.")]
pub(crate) struct CpArgs {
    /// What to copy: CONTAINER:PATH, a path here, or - for a tar archive on standard input
    source: String,
    /// Where to: CONTAINER:PATH, a path here, or - for a tar archive on standard output
    target: String,
    /// Keep owners, and all bits of the modes
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link in SOURCE leads to, not the link
    #[arg(short = 'L', long)]
    follow_link: bool,
    #[command(flatten)]
    place: Place,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Here(PathBuf),
    In { container: String, path: PathBuf },
    Stream,
}

pub(crate) fn main(args: CpArgs) -> Result<ExitCode> {
    must_be_root("cp")?;
    let (source, target) = (End::parse(&args.source), End::parse(&args.target));
    let shelf = Shelf::of(&args.place.absolute()?);
    let volumes = args.place.absolute()?.volumes();
    let side = |container: &str, path: &Path| root::open(&shelf.find(container)?, &volumes, path);
    let keep = if args.archive { tree::Keep::All } else { tree::Keep::Modes };
    match (source, target) {
        (End::In { container, path }, End::Here(target)) => {
            let (root, path) = side(&container, &path)?;
            let source = Source::find(&root, &path, args.follow_link).with_context(|| args.source.clone())?;
            let target = Target::find(None, &target, &source).with_context(|| args.target.clone())?;
            tree::copy(&source, &target, keep)?;
        }
        (End::Here(path), End::In { container, path: target }) => {
            let source = Source::find_here(&path, args.follow_link).with_context(|| args.source.clone())?;
            let (root, target) = side(&container, &target)?;
            let target = Target::find(Some(&root), &target, &source).with_context(|| args.target.clone())?;
            tree::copy(&source, &target, keep)?;
        }
        (End::In { container, path }, End::Stream) => {
            if io::stdout().is_terminal() {
                bail!(
                    "standard output is a terminal, and an archive is nothing to look at: `samara cp ... - | tar tv`"
                );
            }
            let (root, path) = side(&container, &path)?;
            let source = Source::find(&root, &path, args.follow_link).with_context(|| args.source.clone())?;
            stream::write(&source, io::stdout().lock())?;
        }
        (End::Stream, End::In { container, path }) => {
            let (root, path) = side(&container, &path)?;
            let into = samara_inside::in_root(&root, &path, OFlags::PATH | OFlags::DIRECTORY)
                .with_context(|| format!("{}: it must be a directory that is there", args.target))?;
            stream::read(io::stdin().lock(), into.as_fd(), keep)?;
        }
        (End::In { .. }, End::In { .. }) => bail!("both ends are in containers: copy by way of a directory here"),
        (End::Here(_) | End::Stream, End::Here(_) | End::Stream) => {
            bail!("neither end is in a container: write CONTAINER:PATH for one of them")
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl End {
    /// As docker: what begins with `.` or `/`, or has no colon before the first slash, is here.
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((container, path)) if !container.is_empty() && !text.starts_with('.') && !container.contains('/') => {
                Self::In { container: container.to_owned(), path: Path::new("/").join(path) }
            }
            _ => Self::Here(text.into()),
        }
    }
}

/// What is copied: a name in a directory that is held open.
#[derive(Debug)]
struct Source {
    dir: OwnedFd,
    name: OsString,
    kind: FileType,
    /// Only what is in it.
    contents: bool,
    /// The name that it has at the target, if that is a directory.
    called: OsString,
}

impl Source {
    /// In a container's root.
    fn find(root: &OwnedFd, path: &Path, follow: bool) -> Result<Self> {
        let (parent, name) = split(path);
        let Some(name) = name else { return Self::whole(reopen(root)?, path, "root".into()) };
        if follow || path.as_os_str().as_encoded_bytes().ends_with(b"/.") {
            // Its own directory is the link's target's.
            let real = resolve(root, path)?;
            let (parent, name) = split(&real);
            let Some(found) = name else { return Self::whole(reopen(root)?, path, "root".into()) };
            let dir = samara_inside::in_root(root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
            return Self::named(dir, found.to_owned(), path, name_of(path).unwrap_or(found).to_owned());
        }
        let dir = samara_inside::in_root(root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Self::named(dir, name.to_owned(), path, name.to_owned())
    }

    /// On this machine.
    fn find_here(path: &Path, follow: bool) -> Result<Self> {
        let contents = ends_as_contents(path);
        let real = if follow || contents || name_of(path).is_none() { path.canonicalize()? } else { path.to_owned() };
        let (parent, name) = (real.parent().unwrap_or(Path::new("/")), real.file_name());
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let dir = rustix::fs::openat(CWD, parent, directory(), rustix::fs::Mode::empty())?;
        let Some(name) = name else { return Self::whole(dir, path, "root".into()) };
        Self::named(dir, name.to_owned(), path, name_of(path).unwrap_or(name).to_owned())
    }

    fn whole(dir: OwnedFd, path: &Path, called: OsString) -> Result<Self> {
        Ok(Self { dir, name: ".".into(), kind: FileType::Directory, contents: ends_as_contents(path), called })
    }

    fn named(dir: OwnedFd, name: OsString, path: &Path, called: OsString) -> Result<Self> {
        let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let asks_for_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/") || ends_as_contents(path);
        if asks_for_directory && kind != FileType::Directory {
            bail!("it is not a directory");
        }
        Ok(Self { dir, name, kind, contents: ends_as_contents(path), called })
    }
}

/// Where it goes: a name in a directory that is held open.
#[derive(Debug)]
struct Target {
    dir: OwnedFd,
    name: OsString,
    side: Side,
}

/// Whose files are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// This machine's: its devices and fifos are kept.
    Here,
    /// A container's: all that has the name makes way, and no link is followed.
    Container,
}

impl Target {
    /// `root`: the container's; none for a path here.
    fn find(root: Option<&OwnedFd>, path: &Path, source: &Source) -> Result<Self> {
        let side = if root.is_some() { Side::Container } else { Side::Here };
        let open = |path: &Path| match root {
            Some(root) => samara_inside::in_root(root, path, OFlags::PATH | OFlags::DIRECTORY),
            None => rustix::fs::openat(CWD, path, directory(), rustix::fs::Mode::empty()),
        };
        match open(path) {
            Ok(dir) if source.contents => Ok(Self { dir, name: ".".into(), side }),
            Ok(dir) => Ok(Self { dir, name: source.called.clone(), side }),
            Err(rustix::io::Errno::NOTDIR) if source.kind == FileType::Directory => {
                bail!("it is a file, and a directory is to be copied")
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                let asks_for_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
                if asks_for_directory && source.kind != FileType::Directory {
                    bail!("there is no such directory");
                }
                // A link here that the user named is written through, as `cp` does.
                let followed = (side == Side::Here && source.kind == FileType::RegularFile && path.is_symlink())
                    .then(|| path.canonicalize().context("it is a link that leads nowhere"))
                    .transpose()?;
                let (parent, name) = split(followed.as_deref().unwrap_or(path));
                let name = name.context("there is no such directory")?;
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let dir = open(parent).context("the directory that it should be in is not there")?;
                Ok(Self { dir, name: name.to_owned(), side })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The path that links lead to, as the container's root has it.
fn resolve(root: &OwnedFd, path: &Path) -> Result<PathBuf> {
    let found = samara_inside::in_root(root, path, OFlags::PATH)?;
    let base = link(root)?;
    let found = link(&found)?;
    let inside = found.strip_prefix(&base).map_or_else(|_| found.clone(), Path::to_path_buf);
    Ok(Path::new("/").join(inside))
}

fn link(fd: &OwnedFd) -> Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    Ok(std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?)
}

fn reopen(root: &OwnedFd) -> Result<OwnedFd> {
    Ok(rustix::fs::openat(root, ".", directory(), rustix::fs::Mode::empty())?)
}

fn directory() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// The directory and the last name; none for a path that ends at the top or with `..`.
fn split(path: &Path) -> (&Path, Option<&OsStr>) {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, Some(name)),
        _ => (path, None),
    }
}

fn name_of(path: &Path) -> Option<&OsStr> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => Some(name),
        _ => None,
    }
}

/// `dir/.` is what is in it.
fn ends_as_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_in_a_container_if_a_name_and_a_colon_say_so() {
        let inside = |container: &str, path: &str| End::In { container: container.into(), path: path.into() };
        for (text, end) in [
            ("web:/etc/a", inside("web", "/etc/a")),
            ("web:etc", inside("web", "/etc")),
            ("web:", inside("web", "/")),
            ("web:/a:b", inside("web", "/a:b")),
            ("-", End::Stream),
            ("./web:/a", End::Here("./web:/a".into())),
            ("/tmp/a:b", End::Here("/tmp/a:b".into())),
            ("dir/a:b", End::Here("dir/a:b".into())),
            (":/a", End::Here(":/a".into())),
            ("file", End::Here("file".into())),
        ] {
            assert_eq!(End::parse(text), end, "{text}");
        }
    }
}
