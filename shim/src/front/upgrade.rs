//! A front becomes another binary and stays the same process: `execve`, with its listener and its lock passed on.
//!
//! ```text
//!  Upgrade(path) ─ is it a shim? ─ stop listening ─ changes in flight end ─ exec ──▶ adopt ─ new zygote ─ serve
//!                        │                                  │                 │
//!                        └── refused, and the old front goes on as before ◀───┘
//! ```
//!
//! Guarantees: containers, their zygote and their output notice nothing; they stay our children's children. The socket
//! never refuses: who connects in between is answered by the new front. A call in flight that changes something is
//! carried out before; one that comes meanwhile is answered `UNAVAILABLE`; a wait ends with its connection. The zygote of
//! before ends with its last container, because its socket's name is taken by the new one.
//!
//! Not under containerd: it takes a front whose connection ends for dead, and deletes its tasks.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::protobuf::Message as _;
use protobuf::well_known_types::wrappers::StringValue;
use rustix::fs::{Mode, OFlags};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use ttrpc::r#async::{MethodHandler, Server, Service, TtrpcContext};
use ttrpc::{Code, get_status};

use samara_shim_client::front::SHIM_NAME;
use samara_shim_client::upgrade::UPGRADE;

/// How long calls in flight may take to end, a compilation included.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// A binary that has not told its version by then is none of ours.
const TELLS_WITHIN: Duration = Duration::from_secs(10);
/// Answers that are ready are written in so many turns of the loop.
const TURNS: u32 = 64;

/// Why the front stays what it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("the request is not a string")]
    Request(#[source] protobuf::Error),
    #[error("containerd takes a front whose connection ends for dead: start another one for new tasks")]
    Containerd,
    #[error("start {}", path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("{} is no shim of this kind", path.display())]
    NoShim { path: PathBuf },
    #[error("calls in flight did not end within {} s", SETTLES_WITHIN.as_secs())]
    Busy,
    #[error("become {}", path.display())]
    Become { path: PathBuf, source: io::Error },
    #[error("the front is ending")]
    Ending,
}

impl UpgradeError {
    fn status(&self) -> ttrpc::proto::Status {
        let code = match self {
            Self::Containerd => Code::FAILED_PRECONDITION,
            Self::Request(_) | Self::Start { .. } | Self::NoShim { .. } => Code::INVALID_ARGUMENT,
            Self::Busy | Self::Ending => Code::UNAVAILABLE,
            Self::Become { .. } => Code::INTERNAL,
        };
        get_status(code, super::error::chain(self))
    }
}

/// A wish to become `exe`. The answer comes only if that was not possible.
#[derive(Debug)]
pub(crate) struct Ask {
    exe: PathBuf,
    refusal: oneshot::Sender<UpgradeError>,
}

/// The method, under its service's name. `None` for a front of containerd's.
pub(crate) fn service(asks: Option<mpsc::Sender<Ask>>) -> Service {
    let method: Box<dyn MethodHandler + Send + Sync> = Box::new(Upgrade { asks });
    Service { methods: [(UPGRADE.to_owned(), method)].into(), streams: [].into() }
}

struct Upgrade {
    asks: Option<mpsc::Sender<Ask>>,
}

#[async_trait]
impl MethodHandler for Upgrade {
    async fn handler(&self, _: TtrpcContext, request: ttrpc::Request) -> ttrpc::Result<ttrpc::Response> {
        // An error of ours would lose its code on the way.
        let status = self.upgrade(&request.payload).await.status();
        Ok(ttrpc::Response { status: protobuf::MessageField::some(status), ..ttrpc::Response::default() })
    }
}

impl Upgrade {
    async fn upgrade(&self, request: &[u8]) -> UpgradeError {
        let exe = match StringValue::parse_from_bytes(request) {
            Ok(path) => PathBuf::from(path.value),
            Err(error) => return UpgradeError::Request(error),
        };
        let Some(asks) = &self.asks else {
            return UpgradeError::Containerd;
        };
        if let Err(error) = check(&exe).await {
            return error;
        }
        let (refusal, refused) = oneshot::channel();
        if asks.send(Ask { exe, refusal }).await.is_err() {
            return UpgradeError::Ending;
        }
        refused.await.unwrap_or(UpgradeError::Ending)
    }
}

/// A binary that cannot be started must be found out before there is no way back.
async fn check(exe: &Path) -> Result<(), UpgradeError> {
    let no_shim = || UpgradeError::NoShim { path: exe.into() };
    if !exe.is_absolute() {
        return Err(no_shim());
    }
    let mut command = tokio::process::Command::new(exe);
    command.arg0(SHIM_NAME).arg("-v").stdin(Stdio::null()).kill_on_drop(true);
    let told = tokio::time::timeout(TELLS_WITHIN, command.output()).await.map_err(|_silent| no_shim())?;
    let told = told.map_err(|source| UpgradeError::Start { path: exe.into(), source })?;
    if told.status.success() && told.stdout.starts_with(SHIM_NAME.as_bytes()) { Ok(()) } else { Err(no_shim()) }
}

/// What the next front inherits.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) listener: UnixListener,
    pub(crate) lock: File,
}

impl Inherited {
    /// Takes them from files 0 and 1, where [`become_another`] left them.
    pub(crate) fn take() -> io::Result<Self> {
        let listener = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
        let lock = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        Ok(Self { listener: listener.into(), lock: lock.into() })
    }
}

/// Carries an upgrade out. Returns only if it was not possible; then all is as before.
pub(crate) async fn carry_out(
    ask: Ask,
    server: &mut Server,
    changes: &TaskTracker,
    dir: &Path,
    inherited: &Inherited,
) -> ttrpc::Result<()> {
    tracing::info!(exe = %ask.exe.display(), "upgrade");
    server.stop_listen().await;
    changes.close();
    let refusal = match tokio::time::timeout(SETTLES_WITHIN, changes.wait()).await {
        Ok(()) => {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            let source = become_another(&ask.exe, dir, inherited);
            UpgradeError::Become { path: ask.exe, source }
        }
        Err(_elapsed) => UpgradeError::Busy,
    };
    tracing::error!(error = super::error::chain(&refusal), "upgrade");
    changes.reopen();
    server.start().await?;
    // Who asked may have gone.
    let _ = ask.refusal.send(refusal);
    Ok(())
}

/// Everything else that is open is close-on-exec. Comes back with an error or not at all.
fn become_another(exe: &Path, dir: &Path, inherited: &Inherited) -> io::Error {
    let copies = inherited.listener.try_clone().and_then(|listener| Ok((listener, inherited.lock.try_clone()?)));
    let (listener, lock) = match copies {
        Ok(copies) => copies,
        Err(error) => return error,
    };
    let mut command = Command::new(exe);
    command.arg0(SHIM_NAME).arg("front").arg("--dir").arg(dir).args(["--serve", "--inherited"]);
    command.stdin(OwnedFd::from(listener)).stdout(lock).exec()
}
