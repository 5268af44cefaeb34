//! A client's connection as bytes: which protocol it speaks, and how long it may stand still.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

/// What a client begins with that speaks http/2 without having asked (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// From the first bytes; `None` if they are too few to tell.
    fn of(begun: &[u8]) -> Option<Self> {
        if begun.starts_with(PREFACE) {
            return Some(Self::Http2);
        }
        (!PREFACE.starts_with(begun)).then_some(Self::Http1)
    }
}

/// A connection whose first bytes are read already, and whose writes end it when they stand still.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TokioIo<TcpStream>,
    /// Read, and not yet given.
    begun: [u8; PREFACE.len()],
    given: usize,
    filled: usize,
    patience: Duration,
    /// Runs while the client takes nothing of what it is sent.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// Waits for the first bytes, at most for `patience`. `None` if the client has gone without a word.
    pub(super) async fn open(mut stream: TcpStream, patience: Duration) -> io::Result<Option<(Protocol, Self)>> {
        let mut begun = [0; PREFACE.len()];
        let mut filled = 0;
        let read = async {
            loop {
                if filled > 0
                    && let Some(protocol) = Protocol::of(&begun[..filled])
                {
                    return Ok::<_, io::Error>(Some(protocol));
                }
                let read = stream.read(&mut begun[filled..]).await?;
                if read == 0 {
                    // What there is, if anything, is for http/1 to complain of.
                    return Ok((filled > 0).then_some(Protocol::Http1));
                }
                filled += read;
            }
        };
        let protocol = match timeout(patience, read).await {
            Ok(protocol) => protocol,
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        }?;
        let wire = Self { stream: TokioIo::new(stream), begun, given: 0, filled, patience, stalled: None };
        Ok(protocol.map(|protocol| (protocol, wire)))
    }

    /// Passes a write's result on; a write that has waited too long is an error.
    fn patient<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.filled - self.given;
        if left > 0 {
            let count = left.min(buffer.remaining());
            buffer.put_slice(&self.begun[self.given..self.given + count]);
            self.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patient(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.patient(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_which_protocol_it_is() {
        for (begun, protocol) in [
            (&b"G"[..], Some(Protocol::Http1)),
            (b"P", None),
            (b"PR", None),
            (b"PRO", Some(Protocol::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (PREFACE, Some(Protocol::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Some(Protocol::Http1)),
            (b"\x16\x03\x01", Some(Protocol::Http1)),
        ] {
            assert_eq!(Protocol::of(begun), protocol, "{}", String::from_utf8_lossy(begun));
        }
    }
}
