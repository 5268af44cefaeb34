//! From a program's name to compiled code: find the wasm, know its digest, have it compiled once.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use samara_runtime::code::CacheError;
use samara_runtime::{CodeCache, CodeFile, CompileError};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, Semaphore};

use crate::front::hostfile;
use crate::front::open::Rooted;
use crate::front::outline::{Candidates, Wasm};
use crate::front::turns::Turns;

/// Where compiled code is kept when the environment does not say.
pub const DEFAULT_CODE_DIR: &str = "/var/lib/samara/code";

/// Largest wasm that is taken from a container's own root.
const LARGEST_WASM: u64 = 256 << 20;

/// Programs that are copied and compiled at a time: each takes memory of the front for its copy, and of the host for its
/// compiler. More than one, so that a program that takes minutes does not hold up all others.
const AT_ONCE: usize = 2;

/// How often one looks whether code that is kept open was removed.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Why a program cannot be run. The texts are a user's first clue; they name the file as the user wrote it.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    #[error("exec: {name:?}: {reason}")]
    NotFound { name: String, reason: &'static str },
    #[error("exec: {name:?}: permission denied")]
    Denied { name: String },
    #[error("exec format error: {name} is not WebAssembly ({what})")]
    Format { name: String, what: &'static str },
    #[error("{name} is larger than {LARGEST_WASM} bytes")]
    TooLarge { name: String },
    #[error("read {name}")]
    Read { name: String, source: io::Error },
    #[error("{name}: {source}")]
    Compile { name: String, source: CompileError },
}

/// Finds wasm and has it compiled. One per front: it keeps what it verified.
#[derive(Debug, Clone)]
pub(crate) struct Codes {
    cache: CodeCache,
    /// The binary that is the compiler, under another name.
    compiler: PathBuf,
    /// One program of a container at a time, so that many of one container do not keep all others waiting.
    owners: Turns,
    /// See [`AT_ONCE`].
    places: Arc<Semaphore>,
    /// One compiler for a digest: many containers of one new program would else compile it as many times.
    compiling: Turns,
    /// So with the first look at code that is compiled already.
    verifying: Arc<Mutex<()>>,
}

impl Codes {
    pub(crate) fn new(cache: CodeCache) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let compiler = super::SELF.into();
        Self {
            cache,
            compiler,
            owners: Turns::default(),
            places,
            compiling: Turns::default(),
            verifying: Arc::default(),
        }
    }

    /// Lets go of removed code, for ever.
    pub(crate) async fn forget_removed(self) {
        let mut ticks = tokio::time::interval(FORGET_EVERY);
        loop {
            ticks.tick().await;
            self.cache.forget_removed();
        }
    }

    /// Compiled code of a program of the container `owner`.
    pub(crate) async fn ensure(
        &self,
        owner: &str,
        wasm: &Wasm,
        rooted: Option<Rooted<'_>>,
    ) -> Result<OwnedFd, CodeError> {
        match wasm {
            Wasm::Module { path, digest } => {
                let name = path.display().to_string();
                let open = || open_host(path, &name);
                self.known_or_hashed(owner, &name, digest.as_deref(), open).await
            }
            Wasm::InRoot { candidates, digest } => {
                let open = || match rooted {
                    Some(rooted) => find(candidates, rooted),
                    None => Err(not_found(&candidates.name)),
                };
                self.known_or_hashed(owner, &candidates.name, digest.as_deref(), open).await
            }
            Wasm::Pause => {
                let copy = seal(&mut &*super::pause::WASM, "pause")?;
                self.compile("pause", copy.file, &copy.digest).await
            }
        }
    }

    /// With a digest that somebody verified, the cache is enough; else the bytes are copied to where nobody can change
    /// them between the hashing and the compiling.
    async fn known_or_hashed(
        &self,
        owner: &str,
        name: &str,
        digest: Option<&str>,
        open: impl FnOnce() -> Result<File, CodeError>,
    ) -> Result<OwnedFd, CodeError> {
        if let Some(digest) = digest
            && let Some(code) = self.cached(name, digest).await?
        {
            return Ok(code);
        }
        // Most programs were compiled before, and that takes no copy: whatever was read of a file that changes meanwhile,
        // the code in the cache is what these bytes were compiled to.
        let file = open()?;
        let (file, read) = aside(name, move |name| {
            let mut file = file;
            check(&mut file, name)?;
            let read = digest_of(&mut file, io::sink(), name)?;
            file.rewind().map_err(|source| CodeError::Read { name: name.into(), source })?;
            Ok((file, read))
        })
        .await?;
        expect(name, digest, &read)?;
        if let Some(code) = self.cached(name, &read).await? {
            return Ok(code);
        }
        let _turn = self.owners.wait(owner).await;
        // Until it is compiled: for so long there is a copy.
        let _place = self.places.acquire().await;
        let copy = aside(name, move |name| {
            let mut file = file;
            seal(&mut file, name)
        });
        let copy = copy.await?;
        expect(name, digest, &copy.digest)?;
        self.compile(name, copy.file, &copy.digest).await
    }

    async fn cached(&self, name: &str, digest: &str) -> Result<Option<OwnedFd>, CodeError> {
        let fd = |cached: Result<Option<CodeFile>, CacheError>| match cached {
            Ok(code) => Ok(code.map(CodeFile::into_fd)),
            Err(error) => Err(CodeError::Compile { name: name.into(), source: error.into() }),
        };
        if let Some(code) = fd(self.cache.known(digest))? {
            return Ok(Some(code));
        }
        let _one_at_a_time = self.verifying.lock().await;
        let (cache, digest) = (self.cache.clone(), digest.to_owned());
        fd(aside(name, move |_| Ok(cache.get(&digest))).await?)
    }

    async fn compile(&self, name: &str, wasm: File, digest: &str) -> Result<OwnedFd, CodeError> {
        if let Some(code) = self.cached(name, digest).await? {
            return Ok(code);
        }
        let _turn = self.compiling.wait(digest).await;
        let code = samara_runtime::code::ensure(&self.cache, &self.compiler, wasm, digest).await;
        let code = code.map_err(|source| CodeError::Compile { name: name.into(), source })?;
        Ok(code.into_fd())
    }
}

/// On a thread of its own: hundreds of megabytes would hold up every container of the front.
async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(&str) -> Result<T, CodeError> + Send + 'static,
) -> Result<T, CodeError> {
    let named = name.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&named)).await;
    done.unwrap_or_else(|panicked| Err(CodeError::Read { name: name.into(), source: io::Error::other(panicked) }))
}

fn open_host(path: &Path, name: &str) -> Result<File, CodeError> {
    match hostfile::open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_found(name)),
        Err(source) => Err(CodeError::Read { name: name.into(), source }),
    }
}

/// The first candidate that exists. One that may not be read is an error only if no other exists, as for `execvp`.
fn find(candidates: &Candidates, rooted: Rooted<'_>) -> Result<File, CodeError> {
    let name = &candidates.name;
    let mut denied = false;
    for path in &candidates.paths {
        match rooted.open(path) {
            Ok(file) => return Ok(file),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = true,
            Err(source) => return Err(CodeError::Read { name: name.clone(), source }),
        }
    }
    Err(if denied { CodeError::Denied { name: name.clone() } } else { not_found(name) })
}

/// In runc's words, which the kubelet and its users know.
fn not_found(name: &str) -> CodeError {
    let reason = if name.contains('/') { "no such file or directory" } else { "executable file not found in $PATH" };
    CodeError::NotFound { name: name.into(), reason }
}

/// Says what else it is, when it is not wasm.
fn check(file: &mut File, name: &str) -> Result<(), CodeError> {
    let read = |source| CodeError::Read { name: name.into(), source };
    let mut magic = Vec::new();
    io::Read::by_ref(file).take(4).read_to_end(&mut magic).map_err(read)?;
    file.rewind().map_err(read)?;
    let what = match magic.as_slice() {
        b"\0asm" => return Ok(()),
        b"\x7fELF" => "an ELF binary",
        [b'#', b'!', ..] => "a script",
        [] => "an empty file",
        _ => "no known format",
    };
    Err(CodeError::Format { name: name.into(), what })
}

struct Sealed {
    file: File,
    digest: String,
}

/// That it is the one that was asked for, if one was.
fn expect(name: &str, asked: Option<&str>, digest: &str) -> Result<(), CodeError> {
    match asked {
        Some(asked) if asked != digest => {
            let reason = format!("its digest is {digest} and not {asked}");
            Err(CodeError::Compile { name: name.into(), source: CompileError::Refused(reason) })
        }
        _ => Ok(()),
    }
}

/// A copy that cannot change, and its digest.
fn seal(from: &mut impl io::Read, name: &str) -> Result<Sealed, CodeError> {
    let read = |source: io::Error| CodeError::Read { name: name.into(), source };
    let memfd = rustix::fs::memfd_create("samara-wasm", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let mut copy = File::from(memfd.map_err(|errno| read(errno.into()))?);
    let digest = digest_of(from, &mut copy, name)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals).map_err(|errno| read(errno.into()))?;
    copy.rewind().map_err(read)?;
    Ok(Sealed { file: copy, digest })
}

/// Reads all of it, writes the same, and gives the digest.
fn digest_of(from: &mut impl io::Read, mut to: impl io::Write, name: &str) -> Result<String, CodeError> {
    let read = |source: io::Error| CodeError::Read { name: name.into(), source };
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; 64 << 10], 0);
    loop {
        let length = from.read(&mut buffer).map_err(read)?;
        if length == 0 {
            return Ok(format!("sha256:{}", hex::encode(hasher.finalize())));
        }
        size += length as u64;
        if size > LARGEST_WASM {
            return Err(CodeError::TooLarge { name: name.into() });
        }
        hasher.update(&buffer[..length]);
        to.write_all(&buffer[..length]).map_err(read)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    fn candidates(name: &str, paths: &[&str]) -> Candidates {
        Candidates { name: name.into(), paths: paths.iter().map(std::path::PathBuf::from).collect() }
    }

    fn checked(bytes: &[u8]) -> String {
        let mut file = seal(&mut &*bytes, "/bin/sh").expect("sealed").file;
        check(&mut file, "/bin/sh").map_or_else(|error| error.to_string(), |()| "wasm".into())
    }

    #[test]
    fn what_is_not_wasm_is_named() {
        assert_eq!(checked(b"\0asm\x01\0\0\0"), "wasm");
        assert_eq!(checked(b"\x7fELF\x02\x01"), "exec format error: /bin/sh is not WebAssembly (an ELF binary)");
        assert_eq!(checked(b"#!/bin/sh\n"), "exec format error: /bin/sh is not WebAssembly (a script)");
        assert_eq!(checked(b""), "exec format error: /bin/sh is not WebAssembly (an empty file)");
        assert_eq!(checked(b"\0as"), "exec format error: /bin/sh is not WebAssembly (no known format)");
    }

    #[test]
    fn a_sealed_copy_has_its_digest_and_cannot_change() {
        let mut sealed = seal(&mut &b"abc"[..], "x").expect("sealed");
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sealed.digest, abc);
        assert!(sealed.file.write_all(b"d").is_err());
    }

    /// How often others have their turn while something is done.
    async fn turns_during(work: impl Future<Output = ()>) -> u32 {
        use std::sync::atomic::{AtomicU32, Ordering};
        let turns = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&turns);
        let counting = tokio::spawn(async move {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        work.await;
        counting.abort();
        turns.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn others_are_served_while_a_large_program_is_copied() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("large.wasm");
        std::fs::write(&path, b"\0asm").expect("written");
        File::options().write(true).open(&path).and_then(|file| file.set_len(32 << 20)).expect("made long");
        let codes = Codes::new(CodeCache::open(&dir.path().join("code")).expect("cache"));
        // Another digest: it is refused when all of it was read, and before it is compiled.
        let wasm = Wasm::Module { path, digest: Some(format!("sha256:{}", "0".repeat(64))) };
        let turns = turns_during(async {
            let error = codes.ensure("owner", &wasm, None).await.expect_err("another");
            assert!(error.to_string().contains("its digest is"), "{error}");
        });
        assert!(turns.await > 100, "nobody else was served");
    }

    /// A compiler that refuses everything when there is a file `go` beside it. It tells when it begins and ends.
    const COMPILER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo begins >> told
until [ -e go ]; do sleep 0.01; done
echo ends >> told
echo "refused" >&2
exit 2
"#;

    #[tokio::test]
    async fn two_programs_are_compiled_at_a_time_and_others_wait_for_a_place() {
        let dir = tempfile::tempdir().expect("directory");
        let [text, compiler, told] = ["text", "compiler", "told"].map(|name| dir.path().join(name));
        std::fs::write(&text, COMPILER).expect("written");
        // By another process: a file that this one has open for writing, or a child that it forks now, cannot be run.
        let install = std::process::Command::new("install").args(["-m", "755"]).args([&text, &compiler]).status();
        assert!(install.expect("install").success());
        let cache = CodeCache::open(&dir.path().join("code")).expect("cache");
        let codes = Codes { compiler, ..Codes::new(cache) };
        let compile = async |number: u8| {
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, [&b"\0asm"[..], &[number]].concat()).expect("written");
            let error = codes
                .ensure(&number.to_string(), &Wasm::Module { path, digest: None }, None)
                .await
                .expect_err("refused");
            assert!(error.to_string().ends_with(": refused"), "{error}");
        };
        let told = || std::fs::read_to_string(&told).unwrap_or_default();
        let go = async {
            while told().lines().count() < 2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            std::fs::write(dir.path().join("go"), "").expect("written");
        };
        let all = async { tokio::join!(compile(1), compile(2), compile(3), compile(4), go) };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("one does not wait for the other");
        let mut now = 0;
        let at_a_time = told()
            .lines()
            .map(|line| {
                now += if line == "begins" { 1 } else { -1 };
                now
            })
            .max();
        assert_eq!((at_a_time, told().lines().count()), (Some(2), 8), "{}", told());
    }

    #[tokio::test]
    async fn others_are_served_while_compiled_code_is_looked_at_for_the_first_time() {
        let dir = tempfile::tempdir().expect("directory");
        let digest = format!("sha256:{}", "0".repeat(64));
        let cache = CodeCache::open(dir.path()).expect("cache");
        cache.insert(&digest, &vec![0; 32 << 20]).expect("inserted");
        let codes = Codes::new(cache);
        let wasm = Wasm::Module { path: "/nowhere".into(), digest: Some(digest) };
        let first = turns_during(async { drop(codes.ensure("owner", &wasm, None).await.expect("compiled")) }).await;
        assert!(first > 100, "nobody else was served");
        let second = turns_during(async { drop(codes.ensure("owner", &wasm, None).await.expect("compiled")) }).await;
        assert!(second <= 1, "it is looked at once");
    }

    #[test]
    fn the_first_that_exists_is_taken_and_none_is_said_in_known_words() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::create_dir(dir.path().join("bin")).expect("bin");
        std::fs::write(dir.path().join("bin/ls"), "ls").expect("ls");
        let root = File::open(dir.path()).expect("root");
        let rooted = Rooted::Living(root.as_fd());
        let find = |name: &str, paths: &[&str]| {
            find(&candidates(name, paths), rooted)
                .map_err(|error| error.to_string())
                .and_then(|file| io::read_to_string(file).map_err(|error| error.to_string()))
        };
        assert_eq!(find("ls", &["/none/ls", "/bin/ls"]), Ok("ls".into()));
        assert_eq!(find("cat", &["/bin/cat"]), Err(r#"exec: "cat": executable file not found in $PATH"#.into()));
        assert_eq!(find("/x", &["/x"]), Err(r#"exec: "/x": no such file or directory"#.into()));
        assert_eq!(find("/bin", &["/bin"]), Err(r#"exec: "/bin": permission denied"#.into()));
    }
}
