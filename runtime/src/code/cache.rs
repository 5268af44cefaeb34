//! The code cache: `<dir>/<compatibility>/<wasm digest>.cwasm`, and beside it `.sha256` with the code's own digest.
//!
//! Guarantees: a reader gets an entry whole or not at all; two writers of one entry leave one of the two. An entry is
//! hashed through a descriptor that is then kept and handed out, so once per process unless the process uses many. What does not match its digest is
//! as if it were missing, and is replaced.
//! Assumptions: only root writes to the directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::CodeFile;
use super::digest::Digest;
use super::verified::Verified;
use crate::engine;

/// Content-addressed store of compiled code. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CodeCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `<dir>/<compatibility>`.
    dir: PathBuf,
    verified: Mutex<Verified>,
}

/// The cache could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("code cache: {operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0:?} is not a digest of the form sha256:<64 hex digits>")]
    Digest(String),
}

impl CodeCache {
    /// Opens the cache at `dir`, making it if need be. Entries of other versions of Samara or for other processors are
    /// left alone and not seen.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let dir = dir.join(compatibility());
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io_error("make", &dir))?;
        Ok(Self(Arc::new(Inner { dir, verified: Mutex::default() })))
    }

    /// The code of the wasm with this digest (`sha256:...`); `None` if there is none that can be trusted.
    /// Reads all of it the first time: megabytes.
    pub fn get(&self, wasm_digest: &str) -> Result<Option<CodeFile>, CacheError> {
        if let Some(known) = self.known(wasm_digest)? {
            return Ok(Some(known));
        }
        let digest = parse(wasm_digest)?;
        // Nobody waits for the hashing who asks for another.
        let Some(file) = self.open_verified(&digest)? else { return Ok(None) };
        let copy = file.try_clone().map_err(io_error("keep open", &self.code_path(&digest)))?;
        self.verified().insert(digest, file);
        Ok(Some(CodeFile::new(copy)))
    }

    /// As [`Self::get`], if this process has verified it already: at once.
    pub fn known(&self, wasm_digest: &str) -> Result<Option<CodeFile>, CacheError> {
        let digest = parse(wasm_digest)?;
        let known = self.verified().get(&digest);
        Ok(known.map_err(io_error("keep open", &self.code_path(&digest)))?.map(CodeFile::new))
    }

    /// Puts an entry in place by rename; the last of two wins.
    pub fn insert(&self, wasm_digest: &str, code: &[u8]) -> Result<(), CacheError> {
        let digest = parse(wasm_digest)?;
        let recorded = hex::encode(Sha256::digest(code));
        // The digest first: an entry seen in between does not match it and is as if missing.
        self.place(&self.digest_path(&digest), recorded.as_bytes())?;
        self.place(&self.code_path(&digest), code)?;
        self.verified().remove(&digest);
        Ok(())
    }

    /// Removes an entry, if there is one. Who has it open keeps it: the disk's space comes back when the last of them ends.
    pub fn remove(&self, wasm_digest: &str) -> Result<(), CacheError> {
        let digest = parse(wasm_digest)?;
        self.verified().remove(&digest);
        for path in [self.code_path(&digest), self.digest_path(&digest)] {
            exists(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    /// Lets go of entries that were removed, by whomever: their space on the disk comes back when they are closed.
    pub fn forget_removed(&self) {
        self.verified().forget_removed();
    }

    fn open_verified(&self, digest: &Digest) -> Result<Option<File>, CacheError> {
        let path = self.code_path(digest);
        let Some(mut file) = exists(File::open(&path)).map_err(io_error("open", &path))? else {
            return Ok(None);
        };
        let about = file.metadata().map_err(io_error("look at", &path))?;
        let ours = about.is_file() && about.mode() & 0o022 == 0 && about.uid() == rustix::process::geteuid().as_raw();
        let recorded_path = self.digest_path(digest);
        let recorded = exists(fs::read_to_string(&recorded_path)).map_err(io_error("read", &recorded_path))?;
        let actual = hash(&mut file).map_err(io_error("read", &path))?;
        if ours && recorded.as_deref() == Some(actual.as_str()) {
            return Ok(Some(file));
        }
        tracing::warn!(path = %path.display(), "compiled code is not what was stored; it is compiled anew");
        Ok(None)
    }

    fn place(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let temporary =
            self.0.dir.join(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|source| {
            // Half a file is of no use to anyone; if it cannot be removed either, the error says why.
            let _ = fs::remove_file(&temporary);
            io_error("write", path)(source)
        })
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, Verified> {
        self.0.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn code_path(&self, digest: &Digest) -> PathBuf {
        self.0.dir.join(format!("{}.cwasm", digest.hex()))
    }

    fn digest_path(&self, digest: &Digest) -> PathBuf {
        self.0.dir.join(format!("{}.sha256", digest.hex()))
    }
}

fn parse(digest: &str) -> Result<Digest, CacheError> {
    Digest::parse(digest).ok_or_else(|| CacheError::Digest(digest.to_owned()))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError + use<> {
    let path = path.to_owned();
    move |source| CacheError::Io { operation, path, source }
}

fn exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Names the directory: wasmtime's version, our engine configuration, and the processor's features. Code for others is
/// refused when it is loaded; this keeps it from being found.
fn compatibility() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let features = processor
        .lines()
        .find(|line| line.starts_with("flags") || line.starts_with("Features") || line.starts_with("isa"))
        .unwrap_or_default();
    let mut hasher = Sha256::new();
    for part in [engine::WASMTIME.as_bytes(), engine::REVISION, std::env::consts::ARCH.as_bytes(), features.as_bytes()]
    {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex::encode(&hasher.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn cache() -> (tempfile::TempDir, CodeCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&dir.path().join("code")).unwrap();
        (dir, cache)
    }

    fn text(file: Option<CodeFile>) -> Option<String> {
        use std::os::unix::fs::FileExt as _;
        file.map(|file| {
            let file = File::from(file.as_fd().try_clone_to_owned().unwrap());
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            String::from_utf8(bytes).unwrap()
        })
    }

    #[test]
    fn an_entry_that_is_removed_is_gone_and_removing_it_again_is_no_failure() {
        let (_dir, cache) = cache();
        cache.insert(DIGEST, b"code").unwrap();
        let held = cache.get(DIGEST).unwrap();
        cache.remove(DIGEST).unwrap();
        assert!(cache.get(DIGEST).unwrap().is_none());
        assert_eq!(fs::read_dir(&cache.0.dir).unwrap().count(), 0);
        assert_eq!(text(held).as_deref(), Some("code"));
        cache.remove(DIGEST).unwrap();
        assert!(cache.remove("sha256:no").is_err());
    }

    #[test]
    fn what_was_put_in_comes_out_also_of_another_process() {
        let (dir, cache) = cache();
        assert_eq!(text(cache.get(DIGEST).unwrap()), None);
        cache.insert(DIGEST, b"code").unwrap();
        assert_eq!(text(cache.get(DIGEST).unwrap()).as_deref(), Some("code"));
        let other = CodeCache::open(&dir.path().join("code")).unwrap();
        assert_eq!(text(other.get(DIGEST).unwrap()).as_deref(), Some("code"));
        cache.insert(DIGEST, b"newer").unwrap();
        assert_eq!(text(cache.get(DIGEST).unwrap()).as_deref(), Some("newer"));
    }

    #[test]
    fn an_entry_that_was_tampered_with_is_not_used_and_can_be_replaced() {
        let (_dir, cache) = cache();
        cache.insert(DIGEST, b"code").unwrap();
        let path = cache.code_path(&Digest::parse(DIGEST).unwrap());
        fs::write(&path, b"evil").unwrap();
        assert_eq!(text(cache.get(DIGEST).unwrap()), None);
        cache.insert(DIGEST, b"code").unwrap();
        assert_eq!(text(cache.get(DIGEST).unwrap()).as_deref(), Some("code"));
    }

    #[test]
    fn an_entry_is_looked_at_once_and_what_takes_its_place_is_not_seen() {
        let (dir, cache) = cache();
        cache.insert(DIGEST, b"code").unwrap();
        assert!(cache.known(DIGEST).unwrap().is_none(), "nobody has looked at it");
        assert_eq!(text(cache.get(DIGEST).unwrap()).as_deref(), Some("code"));
        let path = cache.code_path(&Digest::parse(DIGEST).unwrap());
        let evil = dir.path().join("evil");
        fs::write(&evil, b"evil").unwrap();
        fs::rename(&evil, &path).unwrap();
        for again in [cache.get(DIGEST), cache.known(DIGEST)] {
            assert_eq!(text(again.unwrap()).as_deref(), Some("code"));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(text(cache.get(DIGEST).unwrap()).as_deref(), Some("code"));
        let other = CodeCache::open(&dir.path().join("code")).unwrap();
        assert_eq!(text(other.get(DIGEST).unwrap()), None);
    }

    #[test]
    fn an_entry_that_others_may_write_is_not_used() {
        let (_dir, cache) = cache();
        cache.insert(DIGEST, b"code").unwrap();
        let path = cache.code_path(&Digest::parse(DIGEST).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert_eq!(text(cache.get(DIGEST).unwrap()), None);
    }

    #[test]
    fn entries_and_directory_are_for_their_owner_only() {
        let (_dir, cache) = cache();
        cache.insert(DIGEST, b"code").unwrap();
        let path = cache.code_path(&Digest::parse(DIGEST).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&cache.0.dir).unwrap().mode() & 0o777, 0o700);
        let left: Vec<_> = fs::read_dir(&cache.0.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "no temporary file stays behind: {left:?}");
    }

    #[test]
    fn a_digest_that_is_a_path_is_refused() {
        let (_dir, cache) = cache();
        assert!(matches!(cache.get("sha256:../../etc/passwd"), Err(CacheError::Digest(_))));
    }
}
