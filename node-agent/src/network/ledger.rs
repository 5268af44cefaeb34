//! The allocation on disk: a file for each address, named by it, that holds the pod's UID; empty while the address rests.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// A directory of addresses, on the run directory's tmpfs: it lives as long as the pods do.
#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
}

/// What the ledger says of an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Taken(String),
    Resting(Timestamp),
}

/// The ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("address ledger {path}")]
pub struct LedgerError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Ledger {
    pub(super) fn open(dir: PathBuf) -> Result<Self, LedgerError> {
        fs::create_dir_all(&dir).map_err(|source| LedgerError { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// All entries; files that are not named by an address are not ours and are passed over.
    pub(super) fn entries(&self) -> Result<Vec<(IpAddr, Entry)>, LedgerError> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.dir).map_err(|source| self.error(&self.dir, source))? {
            let path = file.map_err(|source| self.error(&self.dir, source))?.path();
            let Some(address) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            entries.push((address, read(&path).map_err(|source| self.error(&path, source))?));
        }
        Ok(entries)
    }

    pub(super) fn take(&self, address: IpAddr, pod: &str) -> Result<(), LedgerError> {
        self.write(address, pod)
    }

    pub(super) fn rest(&self, address: IpAddr) -> Result<(), LedgerError> {
        self.write(address, "")
    }

    /// By rename: an entry that a full disk cut short would say that the address rests.
    fn write(&self, address: IpAddr, content: &str) -> Result<(), LedgerError> {
        let path = self.dir.join(address.to_string());
        let new = self.dir.join(format!("{address}.new"));
        let written = fs::write(&new, content).and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| {
            // It may not have been made.
            let _ = fs::remove_file(&new);
            self.error(&path, source)
        })
    }

    fn error(&self, path: &Path, source: io::Error) -> LedgerError {
        LedgerError { path: path.to_owned(), source }
    }
}

fn read(path: &Path) -> io::Result<Entry> {
    let pod = fs::read_to_string(path)?;
    if !pod.is_empty() {
        return Ok(Entry::Taken(pod));
    }
    let freed = fs::metadata(path)?.modified()?;
    Ok(Entry::Resting(Timestamp::try_from(freed).unwrap_or(Timestamp::MIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_by_the_next_agent() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap());
        let ledger = Ledger::open(dir.path().join("addresses")).unwrap();
        ledger.take(a, "pod-a").unwrap();
        ledger.take(b, "pod-b").unwrap();
        ledger.rest(b).unwrap();
        fs::write(dir.path().join("addresses/lost+found"), "x").unwrap();

        let mut entries = Ledger::open(dir.path().join("addresses")).unwrap().entries().unwrap();
        entries.sort_by_key(|(address, _)| *address);
        assert_eq!(entries[0], (a, Entry::Taken("pod-a".to_owned())));
        assert!(
            matches!(entries[1], (address, Entry::Resting(since)) if address == b && since > Timestamp::UNIX_EPOCH)
        );
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn an_entry_that_cannot_be_written_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().to_owned()).unwrap();
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        ledger.take(address, "pod-a").unwrap();
        // In the way of the file to be renamed.
        fs::create_dir(dir.path().join("10.0.0.2.new")).unwrap();
        let error = ledger.rest(address).unwrap_err();
        assert!(error.to_string().ends_with("/10.0.0.2"), "{error}");
        assert_eq!(ledger.entries().unwrap(), [(address, Entry::Taken("pod-a".to_owned()))]);
    }

    #[test]
    fn an_unwritable_ledger_is_named() {
        let error = Ledger::open("/proc/no/addresses".into()).unwrap_err();
        assert_eq!(error.to_string(), "address ledger /proc/no/addresses");
    }
}
