//! The three streams of `samara run`: fifos between the guest and this terminal, pipe or file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Fifos in a directory of the container's own.
#[derive(Debug)]
pub(crate) struct Streams {
    stdin: Option<PathBuf>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Streams {
    /// Makes them; without `interactive` the guest's input is at its end from the start.
    pub(crate) fn make(dir: &Path, interactive: bool) -> Result<Self> {
        let fifo = |name: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)
                .with_context(|| format!("make the fifo {}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            stdin: interactive.then(|| fifo("stdin")).transpose()?,
            stdout: fifo("stdout")?,
            stderr: fifo("stderr")?,
        })
    }

    pub(crate) fn stdin_uri(&self) -> String {
        self.stdin.as_deref().map(uri).unwrap_or_default()
    }

    pub(crate) fn stdout_uri(&self) -> String {
        uri(&self.stdout)
    }

    pub(crate) fn stderr_uri(&self) -> String {
        uri(&self.stderr)
    }

    /// Begins to copy, once the container holds its ends: end of file then means that it has ended.
    pub(crate) fn copy(&self) -> Result<Copies> {
        let (at_end, stdin_ended) = oneshot::channel();
        if let Some(stdin) = &self.stdin {
            let mut to = OpenOptions::new().write(true).open(stdin).context("open the guest's standard input")?;
            // A thread of its own that nobody waits for: a read from a terminal cannot be called off.
            std::thread::spawn(move || {
                // A guest that reads no more has ended its input as well.
                let _ = io::copy(&mut io::stdin().lock(), &mut to);
                let _ = at_end.send(());
            });
        }
        Ok(Copies { stdin_ended, stdout: copy(&self.stdout, io::stdout())?, stderr: copy(&self.stderr, io::stderr())? })
    }
}

/// The copying.
#[derive(Debug)]
pub(crate) struct Copies {
    /// Standard input is at its end, so the guest's is to be closed. An error: there is none to close.
    pub(crate) stdin_ended: oneshot::Receiver<()>,
    stdout: JoinHandle<io::Result<()>>,
    stderr: JoinHandle<io::Result<()>>,
}

impl Copies {
    /// Returns when all that the guest wrote has been passed on.
    pub(crate) async fn finish(self) -> Result<()> {
        for copied in [self.stdout.await?, self.stderr.await?] {
            match copied {
                // Whoever read our output went away, as `head` does.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                other => other.context("pass the guest's output on")?,
            }
        }
        Ok(())
    }
}

fn uri(path: &Path) -> String {
    path.display().to_string()
}

fn copy(fifo: &Path, mut to: impl Write + Send + 'static) -> Result<JoinHandle<io::Result<()>>> {
    let mut from = open(fifo).with_context(|| format!("open {}", fifo.display()))?;
    Ok(tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..read])?;
            to.flush()?;
        }
    }))
}

/// Without waiting for a writer, and then with waiting for data.
fn open(fifo: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(fifo)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_interactive_there_is_no_input() {
        let dir = tempfile::tempdir().unwrap();
        let streams = Streams::make(dir.path(), false).unwrap();
        assert_eq!(streams.stdin_uri(), "");
        assert!(std::fs::exists(dir.path().join("stdout")).unwrap());
        assert!(!std::fs::exists(dir.path().join("stdin")).unwrap());
    }
}
