//! The log of an attached container: what is passed on is written down as well, in the records and files that a detached
//! one's front keeps.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use samara_shim_client::output::records;

/// Of a container's log, as the kubelet has it.
pub(crate) const LOG_SIZE: u64 = 10 << 20;
pub(crate) const LOG_FILES: u32 = 5;

/// Both streams write into one file. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Log(Arc<Mutex<Current>>);

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    size: u64,
    most: u64,
}

impl Log {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::with_size(path, LOG_SIZE)
    }

    fn with_size(path: &Path, most: u64) -> Result<Self> {
        let file = open(path).with_context(|| format!("open the log {}", path.display()))?;
        let size = file.metadata().with_context(|| format!("open the log {}", path.display()))?.len();
        Ok(Self(Arc::new(Mutex::new(Current { path: path.to_owned(), file, size, most }))))
    }

    /// One write for all of a piece.
    pub(super) fn write(&self, now: Timestamp, stream: &str, text: &[u8]) -> io::Result<()> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.size >= current.most {
            current.rotate(now)?;
        }
        let records = records(&format!("{now:.9}"), stream, text);
        if let Err(error) = current.file.write_all(&records) {
            // On a full disk: half a record would run into the next one.
            let _ = current.file.set_len(current.size);
            return Err(error);
        }
        current.size += records.len() as u64;
        Ok(())
    }
}

impl Current {
    /// As the front does: the name has the time, and twice within a second there is none.
    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
        if fs::exists(&name)? {
            return Ok(());
        }
        fs::rename(&self.path, &name)?;
        (self.file, self.size) = (open(&self.path)?, 0);
        let mut older = rotated(&self.path)?;
        let kept = usize::try_from(LOG_FILES - 1).unwrap_or(usize::MAX);
        older.truncate(older.len().saturating_sub(kept));
        older.iter().try_for_each(fs::remove_file)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Older files of a log, oldest first: their names end with a time.
pub(crate) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_rotated =
            entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix) && !name.ends_with(".tmp"));
        if is_rotated {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_output_becomes_a_record_for_each_line() {
        let text = records("1970-01-01T00:00:00.000000000Z", "stderr", b"one\n\ntw");
        let time = "1970-01-01T00:00:00.000000000Z";
        let expected = format!("{time} stderr F one\n{time} stderr F \n{time} stderr P tw\n");
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_log_that_is_large_enough_is_put_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctr.log");
        let log = Log::with_size(&path, 100).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        for second in 0..20 {
            // Two streams, and twice within a second.
            log.write(at(second), "stdout", &[b'o'; 80]).unwrap();
            log.clone().write(at(second), "stderr", &[b'e'; 80]).unwrap();
        }
        let older = rotated(&path).unwrap();
        assert_eq!(older.len(), 4, "{older:?}");
        assert!(older[3].to_string_lossy().ends_with("ctr.log.19700101-000019"), "{older:?}");
        let whole = older.iter().chain([&path]).map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
        assert_eq!(whole.lines().count(), 10, "what is kept is whole");
        assert!(whole.lines().all(|line| line.len() > 100));
        let again = Log::with_size(&path, 100).unwrap();
        again.write(at(30), "stdout", b"x").unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 100, "one that was large before is put aside as well");
    }
}
