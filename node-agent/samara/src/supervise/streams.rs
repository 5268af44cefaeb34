//! The three streams of those who are attached: fifos between the guest and this terminal, pipe or file.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, Mode, mkfifoat};
use samara_shim_client::client::Standard;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::log::Log;
use super::output::{self, Passed};
use super::stop::{Side, Told};
use super::terminal;
use crate::tell::complain;

/// Fifos in a directory of their own, which goes with this.
#[derive(Debug)]
pub(crate) struct Streams {
    dir: tempfile::TempDir,
    interactive: bool,
    terminal: bool,
}

impl Streams {
    /// Makes them; without `interactive` the guest's input is at its end from the start.
    pub(crate) fn make(parent: &Path, interactive: bool, terminal: bool) -> Result<Self> {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let dir = tempfile::tempdir_in(parent).with_context(|| format!("make a directory in {}", parent.display()))?;
        let streams = Self { dir, interactive, terminal };
        for name in [interactive.then_some("stdin"), Some("stdout"), (!terminal).then_some("stderr")] {
            let Some(name) = name else { continue };
            let path = streams.path(name);
            mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)
                .with_context(|| format!("make the fifo {}", path.display()))?;
        }
        Ok(streams)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As the front is told of them.
    pub(crate) fn standard(&self) -> Standard {
        let uri = |wanted, name| if wanted { self.path(name).display().to_string() } else { String::new() };
        Standard {
            stdin: uri(self.interactive, "stdin"),
            stdout: uri(true, "stdout"),
            stderr: uri(!self.terminal, "stderr"),
            terminal: self.terminal,
        }
    }

    /// `watched`: whether keys that are signals are told of.
    ///
    /// Begins to copy, once the container holds its ends: end of file then means that it has ended. `log`: where the
    /// output is written down as well.
    pub(crate) fn copy(&self, log: Option<&Path>, watched: Keys) -> Result<Copies> {
        let (tell, told) = mpsc::unbounded_channel();
        if self.interactive {
            let watched = watched == Keys::Watched;
            let stdin = self.path("stdin");
            let mut to = OpenOptions::new().write(true).open(stdin).context("open the guest's standard input")?;
            let tell = tell.clone();
            // A thread of its own that nobody waits for: a read from a terminal cannot be called off.
            std::thread::spawn(move || {
                // A guest that reads no more has ended its input as well.
                let _ = pass_on(&mut io::stdin().lock(), &mut to, |key| {
                    if let Some(signal) = signal_of(key).filter(|_| watched) {
                        // Whoever would hear it is gone with the container.
                        let _ = tell.send(Told::Interrupted(signal));
                    }
                });
                let _ = tell.send(Told::InputEnded);
            });
        }
        let log = log.map(Log::open).transpose()?;
        let log = |stream| log.clone().map(|log| (log, stream));
        let unread = || {
            let tell = tell.clone();
            // As above: whoever would hear it may be gone.
            move || tell.send(Told::Unread).unwrap_or_default()
        };
        let stderr = match self.terminal {
            true => None,
            false => Some(output::pass_on(&self.path("stderr"), io::stderr(), log("stderr"), unread())?),
        };
        let resized = self.terminal.then(|| signal(SignalKind::window_change())).transpose()?;
        Ok(Copies {
            told: Some(told),
            stdout: output::pass_on(&self.path("stdout"), io::stdout(), log("stdout"), unread())?,
            stderr,
            resized,
        })
    }
}

/// The copying.
#[derive(Debug)]
pub(crate) struct Copies {
    told: Option<mpsc::UnboundedReceiver<Told>>,
    stdout: JoinHandle<io::Result<Passed>>,
    stderr: Option<JoinHandle<io::Result<Passed>>>,
    resized: Option<Signal>,
}

impl Copies {
    /// Returns when all that the guest wrote has been passed on. A log that lacks some of it is told of, and no error.
    pub(crate) async fn finish(self) -> Result<()> {
        let mut passed = Passed::default();
        for copied in [Some(self.stdout), self.stderr].into_iter().flatten() {
            let Passed { shown, logged } = copied.await?.context("read the guest's output")?;
            passed = Passed { shown: passed.shown.or(shown), logged: passed.logged.or(logged) };
        }
        if let Some(error) = passed.logged {
            complain(format_args!("some of its output is not in its log: {error}"));
        }
        match passed.shown {
            // Whoever read our output went away, as `head` does.
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("pass the guest's output on")
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Side for Copies {
    async fn next(&mut self) -> Told {
        let Self { told, resized, .. } = self;
        loop {
            tokio::select! {
                heard = async { match told { Some(told) => told.recv().await, None => std::future::pending().await } } => {
                    match heard {
                        Some(heard) => return heard,
                        None => *told = None,
                    }
                }
                _ = async { match resized { Some(resized) => resized.recv().await, None => std::future::pending().await } } => {
                    if let Some((columns, rows)) = terminal::size() {
                        return Told::Resized(columns, rows);
                    }
                }
            }
        }
    }
}

/// Whether somebody looks at the keys that are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// The first process of a container: the kernel keeps its terminal's signals from it, and no guest could catch them.
    Watched,
    /// What is no terminal's, or a process that the kernel ends.
    Unwatched,
}

/// What a key at a terminal asks for: Ctrl-C and Ctrl-\\.
pub(crate) fn signal_of(key: u8) -> Option<u32> {
    match key {
        0x03 => Some(2),
        0x1c => Some(3),
        _ => None,
    }
}

/// Copies until the end, and shows each byte.
fn pass_on(from: &mut impl Read, to: &mut impl Write, mut show: impl FnMut(u8)) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
        buffer[..read].iter().copied().for_each(&mut show);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_fifo_for_each_stream_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        for (interactive, terminal) in [(false, false), (true, false), (false, true), (true, true)] {
            let streams = Streams::make(dir.path(), interactive, terminal).unwrap();
            let standard = streams.standard();
            assert_eq!(standard.terminal, terminal);
            for (path, wanted) in
                [(&standard.stdin, interactive), (&standard.stdout, true), (&standard.stderr, !terminal)]
            {
                assert_eq!(!path.is_empty(), wanted);
                assert_eq!(Path::new(path).exists(), wanted, "{path}");
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "they go with their owner");
    }
}
