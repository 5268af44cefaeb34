//! Starting a front for the agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::client::Shim;

/// `argv[0]` under which the binary is a shim.
pub const SHIM_NAME: &str = "containerd-shim-samara-v1";
/// Environment: directory of the code cache.
pub const CODE_DIR: &str = "SAMARA_CODE_DIR";
/// A front that has not answered by then never will.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// How to start a front.
#[derive(Debug, Clone)]
pub struct FrontConfig {
    /// The binary that is a shim when called [`SHIM_NAME`].
    pub exe: PathBuf,
    /// The front's own directory: sockets, log, and a link to each task's bundle, by which a successor finds them. Made
    /// if missing.
    pub dir: PathBuf,
    /// Added to (or replacing) the caller's environment.
    pub env: BTreeMap<String, String>,
}

/// Why a front could not be started.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    #[error("start front {}", exe.display())]
    Spawn { exe: PathBuf, source: std::io::Error },
    #[error("front in {} did not answer within {} s", dir.display(), STARTS_WITHIN.as_secs())]
    Silent { dir: PathBuf },
    #[error("front in {} ended with {status}: {message}", dir.display())]
    Failed { dir: PathBuf, status: std::process::ExitStatus, message: String },
}

/// Where a front with this directory listens.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("front.sock")
}

/// Starts a front which goes on without us (own session, own parent), or connects to the one that lives there already.
pub async fn start_front(config: &FrontConfig) -> Result<Shim, FrontError> {
    let started = async {
        let mut socket = socket(&config.dir);
        loop {
            // One that is dying still takes connections for a moment: only an answer shows that it lives.
            if let Ok(shim) = Shim::connect(&socket).await
                && shim.answers().await
            {
                return Ok(shim);
            }
            socket = spawn(config).await?;
        }
    };
    let silent = |_elapsed| FrontError::Silent { dir: config.dir.clone() };
    tokio::time::timeout(STARTS_WITHIN, started).await.map_err(silent)?
}

async fn spawn(config: &FrontConfig) -> Result<PathBuf, FrontError> {
    let failed = |source| FrontError::Spawn { exe: config.exe.clone(), source };
    let mut command = Command::new(&config.exe);
    command.arg0(SHIM_NAME).arg("front").arg("--dir").arg(&config.dir).envs(&config.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (line, message, status) = answer(&mut child).await.map_err(failed)?;
    match line.trim() {
        "" => Err(FrontError::Failed { dir: config.dir.clone(), status, message }),
        line if status.success() => Ok(line.into()),
        _ => Err(FrontError::Failed { dir: config.dir.clone(), status, message }),
    }
}

/// The line it prints; then the starter ends and leaves the front running.
async fn answer(child: &mut tokio::process::Child) -> std::io::Result<(String, String, std::process::ExitStatus)> {
    let (mut line, mut message) = (String::new(), String::new());
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).await?;
    }
    let status = child.wait().await?;
    if let (Some(stderr), false) = (child.stderr.take(), status.success()) {
        stderr.take(4096).read_to_string(&mut message).await?;
    }
    Ok((line, message.trim().to_owned(), status))
}
