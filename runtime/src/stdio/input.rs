//! Input: read when the guest reads, never ahead, and without blocking anything else the guest waits for.
//!
//! The file's description may be shared (a user's terminal, a fifo the shim holds), so `O_NONBLOCK` is not set on it:
//! a read follows only where `poll` has said that there is something.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest};
use tokio::sync::watch;
use tokio_util::io::StreamReader;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::Stdin;

/// Most that one read takes.
const MOST: usize = 64 * 1024;

/// The one input of a guest, shared by all its streams.
#[derive(Debug, Clone)]
pub(crate) struct Input(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None`: at end of file.
    source: Option<Source>,
    terminal: bool,
    /// Someone closed it from outside ([`crate::StopHandle::close_stdin`]).
    closed: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Source {
    file: File,
    /// Registered at the first wait; `None` inside for what is always readable (regular files, `/dev/null`).
    waiter: OnceLock<Option<AsyncFd<File>>>,
}

impl Input {
    pub(crate) fn new(stdin: Stdin, terminal: bool, closed: watch::Receiver<bool>) -> Self {
        let source = match stdin {
            Stdin::Empty => None,
            Stdin::Fd(fd) => Some(Source { file: File::from(fd), waiter: OnceLock::new() }),
        };
        Self(Arc::new(Inner { source, terminal, closed }))
    }

    /// At most `size` bytes that are there now: `Ok(None)` if there are none yet, empty at the end.
    fn read_now(&self, size: usize) -> io::Result<Option<Bytes>> {
        let Some(source) = &self.0.source else {
            return Ok(Some(Bytes::new()));
        };
        if !source.has_something()? {
            let closed = *self.0.closed.borrow();
            return Ok(closed.then(Bytes::new));
        }
        let mut buffer = BytesMut::zeroed(size.min(MOST));
        match (&source.file).read(&mut buffer) {
            Ok(read) => {
                buffer.truncate(read);
                Ok(Some(buffer.freeze()))
            }
            // The other side of a terminal went away.
            Err(error) if self.0.terminal && Errno::from_io_error(&error) == Some(Errno::IO) => Ok(Some(Bytes::new())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until `read_now` has something to say.
    async fn wait(&self) {
        let Some(source) = &self.0.source else { return };
        let Some(waiter) = source.waiter() else { return };
        let mut closed = self.0.closed.clone();
        loop {
            if *closed.borrow_and_update() {
                return;
            }
            let ready = tokio::select! {
                ready = waiter.readable() => ready,
                changed = closed.changed() => match changed {
                    Ok(()) => continue,
                    Err(_gone) => waiter.readable().await,
                },
            };
            let Ok(mut guard) = ready else { return };
            // An edge may be old news: ask again before believing it.
            match source.has_something() {
                Ok(false) => guard.clear_ready(),
                Ok(true) | Err(_) => return,
            }
        }
    }
}

impl Source {
    fn has_something(&self) -> io::Result<bool> {
        let mut files = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN)];
        match poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn waiter(&self) -> Option<&AsyncFd<File>> {
        self.waiter
            .get_or_init(|| {
                let file = self.file.try_clone().ok()?;
                #[expect(deprecated, reason = "a File of our own keeps its descriptor open and what it is")]
                AsyncFd::with_interest(file, Interest::READABLE).ok()
            })
            .as_ref()
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.0.terminal
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        let chunks = futures::stream::unfold(self.clone(), |input| async move {
            loop {
                match input.read_now(MOST) {
                    Ok(Some(bytes)) if bytes.is_empty() => return None,
                    Ok(Some(bytes)) => return Some((Ok(bytes), input)),
                    Ok(None) => input.wait().await,
                    Err(error) => return Some((Err(error), input)),
                }
            }
        });
        Box::new(StreamReader::new(Box::pin(chunks)))
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.wait().await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.read_now(size) {
            Ok(Some(bytes)) if bytes.is_empty() => Err(StreamError::Closed),
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Ok(Bytes::new()),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    fn input(fd: impl Into<std::os::fd::OwnedFd>) -> (watch::Sender<bool>, Input) {
        let (close, closed) = watch::channel(false);
        (close, Input::new(Stdin::Fd(fd.into()), false, closed))
    }

    #[tokio::test]
    async fn waiting_for_a_silent_pipe_blocks_nothing_else() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (_close, mut input) = input(reader);
        assert!(input.read(10).unwrap().is_empty(), "nothing yet");
        let waiting = tokio::time::timeout(Duration::from_millis(20), input.ready());
        assert!(waiting.await.is_err(), "not ready, and the timer still ran");
        writer.write_all(b"abc").unwrap();
        input.ready().await;
        assert_eq!(input.read(2).unwrap(), "ab");
        input.ready().await;
        assert_eq!(input.read(2).unwrap(), "c");
        drop(writer);
        input.ready().await;
        assert!(matches!(input.read(2), Err(StreamError::Closed)));
    }

    #[tokio::test]
    async fn closing_it_from_outside_ends_a_wait_but_loses_nothing() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (close, mut input) = input(reader);
        let mut other = input.clone();
        let waiting = tokio::spawn(async move { other.ready().await });
        tokio::task::yield_now().await;
        writer.write_all(b"last").unwrap();
        close.send_replace(true);
        waiting.await.unwrap();
        assert_eq!(input.read(10).unwrap(), "last");
        input.ready().await;
        assert!(matches!(input.read(10), Err(StreamError::Closed)));
    }

    #[tokio::test]
    async fn a_regular_file_and_dev_null_are_read_to_their_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"text").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let (_close, mut text) = input(file);
        text.ready().await;
        assert_eq!(text.read(10).unwrap(), "text");
        assert!(matches!(text.read(10), Err(StreamError::Closed)));
        let (_close, mut null) = input(File::open("/dev/null").unwrap());
        null.ready().await;
        assert!(matches!(null.read(10), Err(StreamError::Closed)));
    }
}
