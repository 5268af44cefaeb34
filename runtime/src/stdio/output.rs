//! Output: what a guest writes is in the kernel when its call returns.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::cri::Records;
use crate::{Output, Stream};

/// How much a guest may hand over in one call.
const PERMIT: usize = 64 * 1024;

/// One output of a guest, shared by all its streams.
#[derive(Debug, Clone)]
pub(crate) struct Sink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: Target,
    terminal: bool,
}

#[derive(Debug)]
enum Target {
    Null,
    Raw(Arc<File>),
    Cri(Log),
}

#[derive(Debug)]
struct Log {
    file: Arc<File>,
    stream: Stream,
    /// Records that found no room since the last one that did.
    dropped: AtomicU64,
    /// The last record was cut off in the middle: the next begins on a line of its own.
    torn: AtomicBool,
}

impl Sink {
    pub(crate) fn new(output: Output, terminal: bool) -> Self {
        let target = match output {
            Output::Null => Target::Null,
            Output::Raw(file) => Target::Raw(file),
            Output::Cri { file, stream } => {
                Target::Cri(Log { file, stream, dropped: AtomicU64::new(0), torn: AtomicBool::new(false) })
            }
        };
        Self(Arc::new(Inner { target, terminal }))
    }

    /// Writes all of it, waiting where the reader is slow. A full disk is no error: the guest must not fail because
    /// its log does.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.0.target {
            Target::Null => Ok(()),
            Target::Raw(file) => write_all(file, bytes),
            Target::Cri(log) => log.write(bytes),
        }
    }
}

impl Log {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let now = jiff::Timestamp::now();
        for record in Records::new(now, self.stream, bytes).each() {
            self.report_dropped(now)?;
            self.put(&record)?;
        }
        Ok(())
    }

    /// Once there is room again, the log says what it does not show.
    fn report_dropped(&self, now: jiff::Timestamp) -> io::Result<()> {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped == 0 {
            return Ok(());
        }
        let text = format!("samara: {dropped} log records dropped: no space left on device\n");
        for record in Records::new(now, self.stream, text.as_bytes()).each() {
            self.put(&record)?;
        }
        // The report itself may have found no room; what it stood for must not be forgotten.
        if self.dropped.load(Ordering::Relaxed) > 0 {
            self.dropped.fetch_add(dropped - 1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn put(&self, record: &[IoSlice<'_>; 3]) -> io::Result<()> {
        let newline = IoSlice::new(b"\n");
        let [prefix, text, end] = *record;
        // A new file, in the place of one that was full, has nothing to be told apart from.
        let torn = self.torn.load(Ordering::Relaxed) && self.file.metadata().is_ok_and(|about| about.len() > 0);
        let all = [newline, prefix, text, end];
        let slices = if torn { &all[..] } else { &all[1..] };
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            match (&*self.file).write_vectored(slices) {
                Ok(written) => {
                    self.torn.store(written < length, Ordering::Relaxed);
                    if written < length {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn write_all(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Someone else made the shared description non-blocking: wait for its reader.
                let mut wait = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
                match poll(&mut wait, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn stream_error(error: io::Error) -> StreamError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        StreamError::Closed
    } else {
        StreamError::LastOperationFailed(error.into())
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        self.0.terminal
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {}
}

impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Sink::write(self, &bytes).map_err(stream_error)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Sink::write(&self, bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_log_on_a_full_disk_drops_records_and_does_not_fail_the_guest() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let sink = Sink::new(Output::cri(full, Stream::Stdout), false);
        sink.write(b"one\ntwo\n").unwrap();
        let Target::Cri(log) = &sink.0.target else { panic!("a log") };
        assert_eq!(log.dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_log_with_room_again_says_how_many_records_are_missing() {
        let mut file = tempfile::tempfile().unwrap();
        let output = Output::cri(file.try_clone().unwrap(), Stream::Stderr);
        let sink = Sink::new(output, false);
        let Target::Cri(log) = &sink.0.target else { panic!("a log") };
        let report = "stderr F samara: 3 log records dropped: no space left on device";
        // Into a new file, then after half a record.
        for (begun, expected) in [("", &[report, "stderr F on", ""][..]), ("half", &["", report, "stderr F on", ""])] {
            log.dropped.store(3, Ordering::Relaxed);
            log.torn.store(true, Ordering::Relaxed);
            file.set_len(0).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            file.write_all(begun.as_bytes()).unwrap();
            sink.write(b"on\n").unwrap();
            let mut text = String::new();
            io::Seek::rewind(&mut file).unwrap();
            file.read_to_string(&mut text).unwrap();
            let lines: Vec<_> = text.split('\n').map(|line| line.get(31..).unwrap_or("")).collect();
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn raw_output_waits_for_the_reader_of_a_non_blocking_pipe() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let sink = Sink::new(Output::raw(writer), false);
        let text = vec![b'x'; 1 << 20];
        let expected = text.clone();
        let writing = std::thread::spawn(move || sink.write(&text));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert!(read == expected, "all bytes arrive in order");
    }

    #[test]
    fn a_reader_that_went_away_closes_the_stream() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink::new(Output::raw(writer), false);
        let result = OutputStream::write(&mut sink, Bytes::from_static(b"x"));
        assert!(matches!(result, Err(StreamError::Closed)));
    }
}
