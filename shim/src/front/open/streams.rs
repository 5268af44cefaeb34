//! Files 0, 1 and 2: fifos, logs, or a terminal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use super::logger::Logger;
use super::{Files, Named, OpenError};
use crate::front::outline::StdioOutline;
use crate::plan::{Output, Stdio};
use samara_shim_client::output::OutputUri;

/// Opened streams.
#[derive(Debug)]
pub(crate) enum Streams {
    Files {
        stdin: Option<OwnedFd>,
        stdout: Stream,
        /// Unless it is the same as `stdout`.
        stderr: Option<Stream>,
        /// Copies of the fifos among the outputs, for the front.
        fifos: Vec<OwnedFd>,
        /// Programs that read the outputs.
        loggers: Vec<Logger>,
    },
    Terminal {
        pty: Pty,
        /// What reads what the front copies, and where to.
        logger: Option<(Logger, OwnedFd)>,
    },
}

/// A pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Pty {
    /// The front's end.
    master: OwnedFd,
    /// The same for the container, which keeps it for the next front.
    kept: OwnedFd,
    /// The guest's end.
    slave: OwnedFd,
}

/// What the front keeps of a process's streams.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its end of the terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Where its terminal's output goes, if to a program that was started for it.
    pub(crate) output: Option<OwnedFd>,
    /// Outputs that lose what nobody has read when the last who has them open closes them.
    pub(crate) fifos: Vec<OwnedFd>,
    pub(crate) loggers: Vec<Logger>,
}

/// An output.
#[derive(Debug)]
pub(crate) enum Stream {
    Null,
    Raw(OwnedFd),
    Cri(OwnedFd),
}

impl Streams {
    /// Opens what the outline names, and starts the programs among it.
    pub(crate) fn open(outline: &StdioOutline, named: &Named) -> Result<Self, OpenError> {
        if outline.terminal {
            let start = |program| Logger::start(program, named).map(|(logger, outputs)| (logger, outputs.stdout));
            let logger = outline.stdout.program().map(start).transpose()?;
            let pty = terminal().map_err(OpenError::io("open", "/dev/ptmx"))?;
            return Ok(Self::Terminal { pty, logger });
        }
        let same = outline.stdout == outline.stderr;
        let mut loggers = Vec::new();
        let mut start = |program| {
            let (logger, outputs) = Logger::start(program, named)?;
            loggers.push(logger);
            Ok::<_, OpenError>((Stream::Raw(outputs.stdout), Stream::Raw(outputs.stderr)))
        };
        let (stdout, shared) = match outline.stdout.program().map(&mut start).transpose()? {
            Some((stdout, stderr)) => (stdout, same.then_some(stderr)),
            None => (open(&outline.stdout)?, None),
        };
        let stderr = match outline.stderr.program().filter(|_| !same).map(&mut start).transpose()? {
            _ if same => shared,
            Some((_, stderr)) => Some(stderr),
            None => Some(open(&outline.stderr)?),
        };
        let outputs = [(&outline.stdout, Some(&stdout)), (&outline.stderr, stderr.as_ref())];
        let fifos = outputs.into_iter().filter_map(|(uri, stream)| match (uri, stream) {
            (OutputUri::Fifo(path), Some(Stream::Raw(file))) => {
                Some(file.try_clone().map_err(OpenError::io("keep open", path)))
            }
            _ => None,
        });
        let fifos = fifos.collect::<Result<_, _>>()?;
        let stdin = outline.stdin.as_deref().map(open_fifo).transpose()?;
        Ok(Self::Files { stdin, stdout, stderr, fifos, loggers })
    }

    pub(super) fn into_plan(self, files: &mut Files) -> (Stdio, Kept) {
        match self {
            Self::Files { stdin, stdout, stderr, fifos, loggers } => {
                let stdin = stdin.map(|file| files.add(file));
                let mut add = |stream: Stream| match stream {
                    Stream::Null => Output::Null,
                    Stream::Raw(file) => Output::Raw(files.add(file)),
                    Stream::Cri(file) => Output::Cri(files.add(file)),
                };
                let stdout = add(stdout);
                let stderr = stderr.map_or(stdout, add);
                let stdio = Stdio { stdin, stdout, stderr, terminal: false, master: None };
                (stdio, Kept { terminal: None, output: None, fifos, loggers })
            }
            Self::Terminal { pty, logger } => {
                let slave = files.add(pty.slave);
                let master = Some(files.add(pty.kept));
                let stdout = Output::Raw(slave);
                let stdio = Stdio { stdin: Some(slave), stdout, stderr: stdout, terminal: true, master };
                let (logger, output) = logger.unzip();
                let loggers = logger.into_iter().collect();
                (stdio, Kept { terminal: Some(pty.master), output, fifos: Vec::new(), loggers })
            }
        }
    }
}

fn open(uri: &OutputUri) -> Result<Stream, OpenError> {
    match uri {
        OutputUri::Null => Ok(Stream::Null),
        OutputUri::Fifo(path) => open_fifo(path).map(Stream::Raw),
        OutputUri::File(path) => open_log(path).map(|file| Stream::Raw(file.into())),
        OutputUri::Cri(log) => open_log(&log.path).map(|file| Stream::Cri(file.into())),
        // Both ends of it are the caller's.
        OutputUri::Binary(_) => Err(OpenError::Unsupported(format!("output {uri}"))),
    }
}

/// `O_RDWR`: opening waits for nobody, and a reader that goes and comes back (containerd restarted) loses nothing.
fn open_fifo(path: &Path) -> Result<OwnedFd, OpenError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(OpenError::io("open", path))?;
    Ok(file.into())
}

/// Opens a log for appending; makes it and the directories on the way.
pub(crate) fn open_log(path: &Path) -> Result<File, OpenError> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(Path::new("/"));
            fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(OpenError::io("make", dir))?;
            open()
        }
        file => file,
    };
    file.map_err(OpenError::io("open", path))
}

fn terminal() -> io::Result<Pty> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok(Pty { kept: master.try_clone()?, master, slave })
}
