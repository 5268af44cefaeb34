//! The front's own log: a file that stays small.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

/// Environment: what is logged (`debug`, `samara_shim=trace`).
const FILTER: &str = "SAMARA_LOG";

/// The log is renamed to `<log>.old` at this size; two such files are all there ever is.
const LARGEST: u64 = 1 << 20;

/// A log file; rotated between two lines.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: Mutex<(File, u64)>,
}

/// Opens the log and sends all tracing to it. Gives the file for those who write to it otherwise.
pub(crate) fn begin(path: &Path) -> io::Result<File> {
    let log = Log { path: path.into(), file: Mutex::new(open(path)?) };
    let file = log.file.lock().unwrap_or_else(PoisonError::into_inner).0.try_clone()?;
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    let writer =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::sync::Arc::new(log));
    writer.init();
    Ok(file)
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Write for &Log {
    /// The subscriber writes a line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if held.1 + line.len() as u64 > LARGEST {
            fs::rename(&self.path, self.path.with_extension("log.old"))?;
            *held = open(&self.path)?;
        }
        held.0.write_all(line)?;
        held.1 += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_takes_more_than_two_files() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("front.log");
        let log = Log { path: path.clone(), file: Mutex::new(open(&path).expect("log")) };
        let line = [b'x'; 1000];
        for _ in 0..3000 {
            (&log).write_all(&line).expect("written");
        }
        let mut sizes: Vec<_> = fs::read_dir(dir.path())
            .expect("directory")
            .map(|entry| entry.expect("entry").metadata().expect("about").len())
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= LARGEST), "{sizes:?}");
    }
}
