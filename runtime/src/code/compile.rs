//! The parent's side of the compile worker.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::worker::{NAME, REFUSED};
use super::{CacheError, CodeCache, CodeFile};

/// What one compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of memory.
    pub memory: u64,
    /// CPU seconds, of all threads together. Twice as long by the clock is also the end.
    pub cpu_seconds: u64,
    /// Bytes of wasm.
    pub wasm: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory: 4 << 30, cpu_seconds: 300, wasm: 256 << 20 }
    }
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The wasm itself: trying again will not help. The text names what is wrong and is fit for a user.
    #[error("{0}")]
    Refused(String),
    /// It needs more than it may have.
    #[error("compiling needs more than {0}")]
    Limit(String),
    /// The compiler failed, which is our fault.
    #[error("the compiler failed: {0}")]
    Worker(String),
    /// No worker could be started.
    #[error("start the compiler")]
    Spawn(#[source] io::Error),
    /// The code was made and could not be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Most of what a worker may say on its standard error.
const LONGEST_MESSAGE: u64 = 64 * 1024;
/// Compiled code is up to three times as large as its wasm; a worker that writes much more has gone astray.
const LARGEST_GROWTH: u64 = 16;

/// Compiles in a child process: `exe` under the name [`NAME`]. Dropping the future ends the child.
pub async fn compile(exe: &Path, wasm: File, limits: CompileLimits) -> Result<Vec<u8>, CompileError> {
    let mut child = Command::new(exe)
        .arg0(NAME)
        .args([limits.memory, limits.cpu_seconds, limits.wasm].map(|limit| limit.to_string()))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(wasm))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(CompileError::Spawn)?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(CompileError::Spawn(io::Error::other("the child has no pipes")));
    };
    let run = async {
        let largest = limits.wasm.saturating_mul(LARGEST_GROWTH);
        let (code, message) = tokio::try_join!(read(stdout, largest), read(stderr, LONGEST_MESSAGE))?;
        // Someone else in this process may reap children; the code carries its own proof of being whole.
        Ok::<_, io::Error>((code, message, child.wait().await.ok()))
    };
    let longest = Duration::from_secs(limits.cpu_seconds.saturating_mul(2).max(1));
    match tokio::time::timeout(longest, run).await {
        Ok(Ok((code, message, status))) => outcome(code, &message, status, &limits),
        Ok(Err(error)) => Err(CompileError::Worker(error.to_string())),
        Err(_elapsed) => Err(CompileError::Limit(format!("{} s", longest.as_secs()))),
    }
}

/// From the cache, or compiled within the default limits and put there.
pub async fn ensure(cache: &CodeCache, exe: &Path, wasm: File, digest: &str) -> Result<CodeFile, CompileError> {
    ensure_within(cache, exe, wasm, digest, CompileLimits::default()).await
}

/// From the cache, or compiled and put there. What is in the cache is not asked what it took.
pub async fn ensure_within(
    cache: &CodeCache,
    exe: &Path,
    wasm: File,
    digest: &str,
    limits: CompileLimits,
) -> Result<CodeFile, CompileError> {
    if let Some(code) = cached(cache, digest).await? {
        return Ok(code);
    }
    let code = compile(exe, wasm, limits).await?;
    let (store, key) = (cache.clone(), digest.to_owned());
    blocking(move || store.insert(&key, &code)).await?;
    cached(cache, digest).await?.ok_or_else(|| CompileError::Worker("the cache lost the code at once".into()))
}

async fn cached(cache: &CodeCache, digest: &str) -> Result<Option<CodeFile>, CompileError> {
    let (store, key) = (cache.clone(), digest.to_owned());
    blocking(move || store.get(&key)).await
}

/// Hashing and writing megabytes would hold up everything else on this thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CompileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(CompileError::Worker(error.to_string())),
    }
}

async fn read(from: impl AsyncRead + Unpin, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// What the worker appends to the code: proof that all of it arrived.
pub(super) fn trailer(code: &[u8]) -> [u8; 32] {
    Sha256::digest(code).into()
}

fn outcome(
    mut code: Vec<u8>,
    message: &[u8],
    status: Option<ExitStatus>,
    limits: &CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    use std::os::unix::process::ExitStatusExt as _;
    if let Some((body, proof)) = code.split_last_chunk::<32>()
        && trailer(body) == *proof
    {
        code.truncate(code.len() - 32);
        return Ok(code);
    }
    let message = String::from_utf8_lossy(message).trim().to_owned();
    let signal = status.and_then(|status| status.signal());
    let exited = status.and_then(|status| status.code());
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    if exited == Some(i32::from(REFUSED)) {
        return Err(CompileError::Refused(message));
    }
    const NO_MEMORY: [&str; 3] = ["memory allocation of", "Cannot allocate memory", "Resource temporarily unavailable"];
    if NO_MEMORY.iter().any(|text| message.contains(text)) {
        return Err(CompileError::Limit(format!("{} MiB of memory", limits.memory >> 20)));
    }
    if matches!(signal, Some(SIGXCPU | SIGKILL)) {
        return Err(CompileError::Limit(format!("{} s of cpu time", limits.cpu_seconds)));
    }
    let status = status.map_or_else(|| "it was reaped elsewhere".into(), |status| status.to_string());
    Err(CompileError::Worker(if message.is_empty() { status } else { format!("{message} ({status})") }))
}
