//! Pairs on disk, as the kubelet keeps them: `<prefix>-<time>.pem`, and `<prefix>-current.pem`, a link to the newest.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::KeyPair;

use super::Pair;

/// The disk, or what is on it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What was issued is no certificate for our key.
    #[error("the certificate to be kept in {}: {reason}", path.display())]
    Pair {
        /// Where it was to be kept.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No key can be made.
    #[error("making a key")]
    Key(#[from] rcgen::Error),
}

/// One kind of pair.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    prefix: &'static str,
}

impl Store {
    /// Names it; touches nothing.
    pub fn new(dir: &Path, prefix: &'static str) -> Self {
        Self { dir: dir.to_owned(), prefix }
    }

    /// Where the newest pair is found.
    pub fn current_path(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.prefix))
    }

    /// The newest pair. A file that is none is told of and counts as none: a new certificate is the cure.
    pub fn current(&self) -> Option<Pair> {
        let path = self.current_path();
        let pem = fs::read(&path).ok()?;
        Pair::parse(&pem)
            .inspect_err(|error| tracing::warn!(file = %path.display(), %error, "not a certificate with its key"))
            .ok()
    }

    /// The key for the next certificate: the one that a request was already made for, else a new one, kept for then.
    pub fn next_key(&self) -> Result<KeyPair, StoreError> {
        let path = self.next_key_path();
        if let Ok(pem) = fs::read_to_string(&path)
            && let Ok(key) = KeyPair::from_pem(&pem)
        {
            return Ok(key);
        }
        let key = KeyPair::generate()?;
        self.write(&path, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// The next request is for a new key.
    pub fn forget_next_key(&self) {
        let _was_not_there = fs::remove_file(self.next_key_path());
    }

    /// Keeps a certificate with the key that it was asked for with, and makes it the newest.
    pub fn keep(&self, certificate_pem: &[u8], key: &KeyPair, now: Timestamp) -> Result<Pair, StoreError> {
        let path = self.dir.join(format!("{}-{}.pem", self.prefix, now.strftime("%Y-%m-%d-%H-%M-%S")));
        let mut pem = certificate_pem.to_vec();
        if !pem.ends_with(b"\n") {
            pem.push(b'\n');
        }
        pem.extend_from_slice(key.serialize_pem().as_bytes());
        let pair =
            Pair::parse(&pem).map_err(|error| StoreError::Pair { path: path.clone(), reason: error.to_string() })?;
        self.write(&path, &pem)?;

        let (link, current) = (self.dir.join(format!("{}-updated.pem", self.prefix)), self.current_path());
        let _left_over = fs::remove_file(&link);
        let target = path.file_name().unwrap_or(path.as_os_str());
        symlink(target, &link).map_err(|source| StoreError::Io { operation: "linking", path: link.clone(), source })?;
        fs::rename(&link, &current).map_err(|source| StoreError::Io { operation: "linking", path: current, source })?;
        self.forget_next_key();
        Ok(pair)
    }

    fn next_key_path(&self) -> PathBuf {
        self.dir.join(format!("{}.key.tmp", self.prefix))
    }

    /// All or nothing, for us alone, and on the disk when it returns: a key that is lost costs an operator's approval.
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let failed = |operation| move |source| StoreError::Io { operation, path: path.to_owned(), source };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed("making the directory of"))?;
        let temporary = path.with_extension("part");
        let _left_over = fs::remove_file(&temporary);
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(failed("writing"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::CertificateParams;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::new(&dir.path().join("pki"), "kubelet-client");
        (dir, store)
    }

    fn issue(key: &KeyPair) -> String {
        CertificateParams::new(vec!["n".into()]).expect("a name").self_signed(key).expect("signed").pem()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn what_is_kept_is_the_newest() {
        let (_dir, store) = store();
        assert!(store.current().is_none());
        for second in [0, 1] {
            let key = store.next_key().expect("a key");
            store.keep(issue(&key).as_bytes(), &key, at(second)).expect("kept");
            assert!(store.current().is_some());
        }
        let target = fs::read_link(store.current_path()).expect("a link");
        assert_eq!(target, Path::new("kubelet-client-1970-01-01-00-00-01.pem"));
        let mode = fs::metadata(store.current_path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_is_used_again_until_its_certificate_is_there() {
        let (_dir, store) = store();
        let public = |store: &Store| store.next_key().expect("a key").public_key_pem();
        let first = public(&store);
        assert_eq!(public(&store), first);
        let key = store.next_key().expect("a key");
        store.keep(issue(&key).as_bytes(), &key, at(0)).expect("kept");
        assert_ne!(public(&store), first);
    }

    #[test]
    fn a_certificate_for_another_key_is_not_kept() {
        let (_dir, store) = store();
        let key = store.next_key().expect("a key");
        let other = issue(&KeyPair::generate().expect("a key"));
        assert!(matches!(store.keep(other.as_bytes(), &key, at(0)), Err(StoreError::Pair { .. })));
        assert!(store.current().is_none());
    }

    #[test]
    fn a_broken_file_counts_as_none() {
        let (_dir, store) = store();
        let key = store.next_key().expect("a key");
        store.keep(issue(&key).as_bytes(), &key, at(0)).expect("kept");
        fs::write(store.current_path(), "half a fi").expect("broken");
        assert!(store.current().is_none());
        fs::write(store.next_key_path(), "half a key").expect("broken");
        store.next_key().expect("a new one");
    }
}
