//! A process's terminal: the front copies between the pty and fifos, the log or a logging program.
//!
//! The container has the same open file, for the next front, and with it a say in whether a read or a write of it waits. So
//! both are done on threads that may wait: a hostile process holds up its own terminal and nothing else.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::error::TaskError;
use super::open::{OpenError, open_log};
use super::outline::StdioOutline;
use super::process::{Process, SharedLog};
use super::watched::{Watched, watch_both};
use samara_shim_client::output::{OutputUri, records};

/// Where output goes.
enum Sink {
    Null,
    Fifo(pipe::Sender),
    File(File),
    Cri(SharedLog),
}

/// Begins to copy. Ends with the process.
///
/// `output` is what a logging program reads.
pub(crate) fn attach(
    process: &Process,
    master: OwnedFd,
    stdio: &StdioOutline,
    output: Option<OwnedFd>,
) -> Result<(), OpenError> {
    let sink = match output {
        Some(output) => {
            let sender = rustix::io::ioctl_fionbio(&output, true).map_err(io::Error::from);
            let sender = sender.and_then(|()| pipe::Sender::from_owned_fd(output));
            Sink::Fifo(sender.map_err(|source| OpenError::Io { operation: "watch", path: "pipe".into(), source })?)
        }
        None => sink(&stdio.stdout)?,
    };
    if let Sink::Cri(log) = &sink {
        process.set_log(Arc::clone(log));
    }
    let stdin = stdio.stdin.as_deref().map(|path| {
        let open = pipe::OpenOptions::new().read_write(true).open_receiver(path);
        open.map_err(|source| OpenError::Io { operation: "open", path: path.into(), source })
    });
    let stdin = stdin.transpose()?;
    // As somebody who had it before may have left it otherwise.
    let file = rustix::io::ioctl_fionbio(&master, true).map_err(io::Error::from);
    let file = file.and_then(|()| watch_both(master.try_clone()?));
    let file = file.map_err(|source| OpenError::Io { operation: "watch", path: "pty".into(), source })?;
    process.set_terminal(Arc::new(master));
    let name = process.name();
    tokio::spawn(async move {
        let copied = tokio::select! {
            copied = copy_out(&file, sink) => copied,
            copied = copy_in(&file, stdin) => copied,
        };
        tracing::debug!(process = name, ?copied, "terminal closed");
    });
    Ok(())
}

/// The same for a process of a front that is gone.
pub(crate) fn take_over(process: &Process, master: OwnedFd) -> Result<(), TaskError> {
    let stdio = StdioOutline::of(&super::task::standard(&process.record))?;
    Ok(attach(process, master, &stdio, None)?)
}

/// New size in characters.
pub(crate) fn resize(process: &Process, width: u32, height: u32) -> Result<(), TaskError> {
    let terminal = process.terminal().ok_or(TaskError::NoTerminal)?;
    let size = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: size(height), ws_col: size(width), ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal.as_fd(), size).map_err(|errno| TaskError::Io {
        operation: "resize the terminal of",
        path: process.name().into(),
        source: errno.into(),
    })
}

fn sink(uri: &OutputUri) -> Result<Sink, OpenError> {
    let open = |path: &std::path::Path| {
        let open = pipe::OpenOptions::new().read_write(true).open_sender(path);
        open.map_err(|source| OpenError::Io { operation: "open", path: path.into(), source })
    };
    match uri {
        OutputUri::Null => Ok(Sink::Null),
        OutputUri::Fifo(path) => open(path).map(Sink::Fifo),
        OutputUri::File(path) => open_log(path).map(Sink::File),
        OutputUri::Cri(log) => Ok(Sink::Cri(Arc::new(Mutex::new(open_log(&log.path)?)))),
        // The one that was started for it ended with the front before this.
        OutputUri::Binary(_) => {
            tracing::warn!(%uri, "a terminal's logging program has ended: its output is dropped");
            Ok(Sink::Null)
        }
    }
}

async fn copy_out(master: &Watched, mut sink: Sink) -> io::Result<()> {
    loop {
        // EIO: nobody has the other end open any more.
        let text = match read(master).await {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
            text => text?,
        };
        match &mut sink {
            _ if text.is_empty() => return Ok(()),
            Sink::Null => {}
            Sink::Fifo(fifo) => fifo.write_all(&text).await?,
            Sink::File(file) => file.write_all(&text)?,
            Sink::Cri(log) => {
                let records = records(&format!("{:.9}", jiff::Timestamp::now()), "stdout", &text);
                log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&records)?;
            }
        }
    }
}

/// Never ends before the terminal does, so that output goes on when input is over.
async fn copy_in(master: &Watched, stdin: Option<pipe::Receiver>) -> io::Result<()> {
    if let Some(mut stdin) = stdin {
        let mut buffer = vec![0; 1 << 10];
        loop {
            let length = stdin.read(&mut buffer).await?;
            if length == 0 {
                break;
            }
            write(master, buffer[..length].to_vec()).await?;
        }
    }
    std::future::pending().await
}

async fn read(master: &Watched) -> io::Result<Vec<u8>> {
    loop {
        let mut guard = master.readable().await?;
        let file = guard.get_inner().try_clone()?;
        let read = aside(move || {
            let mut buffer = vec![0; 8 << 10];
            let length = rustix::io::read(&file, &mut buffer[..])?;
            buffer.truncate(length);
            Ok(buffer)
        });
        match read.await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            done => return done,
        }
    }
}

async fn write(master: &Watched, mut text: Vec<u8>) -> io::Result<()> {
    while !text.is_empty() {
        let mut guard = master.writable().await?;
        let (file, part) = (guard.get_inner().try_clone()?, text.clone());
        match aside(move || Ok(rustix::io::write(&file, &part)?)).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            written => drop(text.drain(..written?)),
        }
    }
    Ok(())
}

async fn aside<T: Send + 'static>(call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_output_becomes_records() {
        let now = "2026-01-02T03:04:05.000000006Z";
        let text = records(now, "stdout", b"one\r\n\ntw");
        let text = String::from_utf8(text).expect("text");
        let time = "2026-01-02T03:04:05.000000006Z";
        assert_eq!(text, format!("{time} stdout F one\r\n{time} stdout F \n{time} stdout P tw\n"));
    }
}
