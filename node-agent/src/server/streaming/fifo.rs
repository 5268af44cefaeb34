//! Fifos of one session, in a directory that goes when it does.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe;

/// Makes and removes them.
#[derive(Debug)]
pub(super) struct Fifos {
    dir: PathBuf,
}

impl Fifos {
    /// The directory is root's alone.
    pub(super) fn make(dir: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir })
    }

    /// One more; gives its path, as text for a task request.
    pub(super) fn add(&self, name: &str) -> io::Result<String> {
        let path = self.dir.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        Ok(path.display().to_string())
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Reads what is written from now on. While it is held by [`Output::hold`], nothing is lost and no end is seen; the end
/// is that of the last writer after [`Output::reader`].
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    held: pipe::Receiver,
}

impl Output {
    /// Before there is a writer.
    pub(super) fn hold(path: &str) -> io::Result<Self> {
        // Also as a writer: no end of file before the first writer came.
        let held = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
        Ok(Self { path: path.into(), held })
    }

    /// Once the writer is there, or has been.
    pub(super) fn reader(self) -> io::Result<pipe::Receiver> {
        let reader = pipe::OpenOptions::new().open_receiver(&self.path);
        drop(self.held);
        reader
    }
}

/// `None` when nobody reads: the process has ended.
pub(super) fn input(path: &Path) -> io::Result<Option<pipe::Sender>> {
    match pipe::OpenOptions::new().open_sender(path) {
        Ok(sender) => Ok(Some(sender)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_writer_that_has_come_and_gone_is_read_to_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifos = Fifos::make(dir.path().join("session")).expect("made");
        let path = fifos.add("stdout").expect("made");
        let output = Output::hold(&path).expect("held");
        std::fs::OpenOptions::new().write(true).open(&path).expect("opened").write_all(b"last words").expect("written");
        let mut text = String::new();
        output.reader().expect("opened").read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "last words");
        drop(fifos);
        assert!(!dir.path().join("session").exists());
    }

    #[tokio::test]
    async fn an_input_that_nobody_reads_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifos = Fifos::make(dir.path().join("session")).expect("made");
        let path = fifos.add("stdin").expect("made");
        assert!(input(path.as_ref()).expect("no failure").is_none());
    }
}
