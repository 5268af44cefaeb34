//! The front's end of a control connection.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::hearing::Hearing;
use super::{Command, Event, Hello, MOST_LISTENING, Message, Request, State, Stream, VERSION, frame};
use crate::zygote::wire;

/// File name of the socket in a bundle.
const SOCKET: &str = "control.sock";

/// A connection to a container's control thread. Dropping it ends the connection, not the container.
#[derive(Debug)]
pub struct Control {
    stream: Arc<UnixStream>,
    sending: tokio::sync::Mutex<()>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    reader: AbortHandle,
    /// Its sender goes with the reader.
    open: watch::Receiver<()>,
}

/// What [`connect`] gives.
#[derive(Debug)]
pub struct Connected {
    pub control: Control,
    pub hello: Hello,
    /// Until the process ends or another front takes over. Those that nobody takes are lost.
    pub events: mpsc::Receiver<Event>,
    /// The master of the process's terminal.
    pub terminal: Option<OwnedFd>,
}

/// A command that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("connect to {SOCKET}")]
    Connect(#[source] io::Error),
    #[error("speak over {SOCKET}")]
    Io(#[from] io::Error),
    #[error("the container speaks version {0} of the control protocol, this is {VERSION}")]
    Version(u32),
    /// The process has ended, or another front has taken over.
    #[error("the container closed the connection")]
    Closed,
    #[error("the container refused: {0}")]
    Refused(String),
}

/// Makes the socket of a bundle, replacing one that is there. The listener is for the container's plan.
pub fn listen(bundle: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(bundle.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_directory, path) = short(bundle)?;
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    Ok(listener.into())
}

/// Connects to the container of a bundle.
pub async fn connect(bundle: &Path) -> Result<Connected, ControlError> {
    let (_directory, path) = short(bundle).map_err(ControlError::Connect)?;
    let stream = Arc::new(UnixStream::connect(path).await.map_err(ControlError::Connect)?);
    let mut hearing = Hearing::new(Arc::clone(&stream));
    let (greeting, files): (serde_json::Value, _) = hearing.greeting().await?.ok_or(ControlError::Closed)?;
    let hello = understand(greeting)?;
    let (events, event_receiver) = mpsc::channel(MOST_EVENTS);
    let (is_open, open) = watch::channel(());
    let waiting = Arc::new(Waiting::default());
    let read = read(hearing, Arc::clone(&waiting), events);
    let reader = tokio::spawn(async move {
        read.await;
        drop(is_open);
    });
    let control = Control {
        stream,
        sending: tokio::sync::Mutex::new(()),
        waiting,
        next: AtomicU64::new(1),
        reader: reader.abort_handle(),
        open,
    };
    let terminal = files.into_iter().find(|file| rustix::pty::ptsname(file, Vec::new()).is_ok());
    Ok(Connected { control, hello, events: event_receiver, terminal })
}

/// The version keeps its place in every version; nothing else has to.
fn understand(greeting: serde_json::Value) -> Result<Hello, ControlError> {
    let version = greeting["version"].as_u64().and_then(|version| u32::try_from(version).ok());
    match version {
        Some(version) if version != VERSION => Err(ControlError::Version(version)),
        _ => Ok(serde_json::from_value(greeting).map_err(io::Error::from)?),
    }
}

/// All that an honest container ever says: each socket of its guest, and the end.
const MOST_EVENTS: usize = MOST_LISTENING + 1;

impl Control {
    /// Whether the connection has ended: the process has, or let us go, or another front has taken over.
    pub fn is_closed(&self) -> bool {
        self.open.has_changed().is_err()
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        let mut open = self.open.clone();
        while open.changed().await.is_ok() {}
    }

    /// Lets the guest begin.
    pub async fn start(&self) -> Result<State, ControlError> {
        self.command(Command::Start, &[]).await
    }

    /// Asks the guest to end within `grace`. One that cannot ends now with 128 + `signal`, which shows as
    /// [`ControlError::Closed`].
    pub async fn stop(&self, signal: u8, grace: Duration) -> Result<State, ControlError> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.command(Command::Stop { signal, grace_millis }, &[]).await
    }

    /// Puts `file` in the place of the one a stream is written to.
    pub async fn output(&self, stream: Stream, file: BorrowedFd<'_>) -> Result<(), ControlError> {
        self.command(Command::Output { stream }, &[file]).await.map(drop)
    }

    /// Lets the guest read end of file from its input.
    pub async fn close_stdin(&self) -> Result<(), ControlError> {
        self.command(Command::CloseStdin, &[]).await.map(drop)
    }

    /// What the others do, by name.
    #[expect(clippy::wildcard_enum_match_arm, reason = "of the kinds of IO errors two mean that the other end is gone")]
    pub(crate) async fn command(&self, command: Command, files: &[BorrowedFd<'_>]) -> Result<State, ControlError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let answer = self.waiting.enter(id)?;
        let sent = self.send(&frame::encode(&Request { id, command })?, files).await;
        if let Err(error) = sent {
            self.waiting.leave(id);
            return match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(ControlError::Closed),
                _ => Err(error.into()),
            };
        }
        match answer.await {
            Ok(answer) => answer.map_err(ControlError::Refused),
            Err(_closed) => Err(ControlError::Closed),
        }
    }

    /// Files go beside the first byte.
    async fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let _one_at_a_time = self.sending.lock().await;
        let mut sent = 0;
        while sent < bytes.len() {
            let files = if sent == 0 { files } else { &[] };
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || wire::send(self.stream.as_fd(), &bytes[sent..], files))
                .await?;
        }
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

type Answer = Result<State, String>;

/// Commands without an answer yet. Closed when the connection has ended.
#[derive(Debug)]
struct Waiting(Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }
}

impl Waiting {
    fn enter(&self, id: u64) -> Result<oneshot::Receiver<Answer>, ControlError> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut().ok_or(ControlError::Closed)?.insert(id, sender);
        Ok(receiver)
    }

    fn leave(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut()?.remove(&id)
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

async fn read(mut hearing: Hearing, waiting: Arc<Waiting>, events: mpsc::Sender<Event>) {
    loop {
        let (id, answer) = match hearing.next().await {
            Ok(Some(Message::Done { id, state })) => (id, Ok(state)),
            Ok(Some(Message::Refused { id, reason })) => (id, Err(reason)),
            Ok(Some(Message::Event(event))) => {
                // Nobody has to listen to events, and who comes late finds them in the next greeting.
                let _ = events.try_send(event);
                continue;
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "control connection ended");
                break;
            }
        };
        if let Some(sender) = waiting.leave(id) {
            // Who asked may have gone.
            let _ = sender.send(answer);
        }
    }
    waiting.close();
}

/// A path to the socket that fits into a socket address, whatever the length of the bundle's: by the number of an open
/// directory, which has to stay open while the path is used.
fn short(bundle: &Path) -> io::Result<(OwnedFd, std::path::PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(bundle, flags, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    Ok((directory, format!("/proc/self/fd/{number}/{SOCKET}").into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_version_is_told_whatever_else_it_says() {
        let error = understand(json!({"version": 2, "mood": ["good"]})).expect_err("another version");
        assert!(matches!(error, ControlError::Version(2)), "{error:?}");
        assert_eq!(error.to_string(), "the container speaks version 2 of the control protocol, this is 1");
    }

    #[test]
    fn what_is_no_greeting_is_no_version_either() {
        for hostile in [json!(null), json!([]), json!({"version": -1}), json!({"version": 1}), json!({"version": "2"})]
        {
            let error = understand(hostile.clone()).expect_err("no greeting");
            assert!(matches!(error, ControlError::Io(_)), "{hostile}: {error:?}");
        }
    }
}
