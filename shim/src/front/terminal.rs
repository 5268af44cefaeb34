//! A process's terminal: the front copies between the pty and fifos or the log.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;

use super::error::TaskError;
use super::open::{OpenError, open_log};
use super::outline::StdioOutline;
use super::process::{Process, SharedLog};
use super::watched::{Watched, watch_both};
use samara_shim_client::output::OutputUri;

/// Where output goes.
enum Sink {
    Null,
    Fifo(pipe::Sender),
    File(File),
    Cri(SharedLog),
}

/// Begins to copy. Ends with the process.
pub(crate) fn attach(process: &Arc<Process>, master: OwnedFd, stdio: &StdioOutline) -> Result<(), OpenError> {
    let sink = sink(&stdio.stdout)?;
    if let Sink::Cri(log) = &sink {
        process.set_log(Arc::clone(log));
    }
    let stdin = stdio.stdin.as_deref().map(|path| {
        let open = pipe::OpenOptions::new().read_write(true).open_receiver(path);
        open.map_err(|source| OpenError::Io { operation: "open", path: path.into(), source })
    });
    let stdin = stdin.transpose()?;
    let file = master.try_clone().and_then(watch_both);
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
        OutputUri::Binary { .. } => {
            Err(OpenError::Unsupported(format!("output {uri}: logging programs are not supported")))
        }
    }
}

async fn copy_out(master: &Watched, mut sink: Sink) -> io::Result<()> {
    let mut buffer = vec![0; 8 << 10];
    loop {
        let read = master
            .async_io(Interest::READABLE, |file| rustix::io::read(file, &mut buffer[..]).map_err(io::Error::from));
        // EIO: nobody has the other end open any more.
        let length = match read.await {
            Ok(0) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
            length => length?,
        };
        match &mut sink {
            Sink::Null => {}
            Sink::Fifo(fifo) => fifo.write_all(&buffer[..length]).await?,
            Sink::File(file) => file.write_all(&buffer[..length])?,
            Sink::Cri(log) => {
                let records = records(jiff::Timestamp::now(), &buffer[..length]);
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
            let mut rest = &buffer[..length];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let write =
                    master.async_io(Interest::WRITABLE, |file| rustix::io::write(file, rest).map_err(io::Error::from));
                rest = &rest[write.await?..];
            }
        }
    }
    std::future::pending().await
}

/// CRI log records of a piece of output: each line one `F`, an unfinished one `P`.
fn records(now: jiff::Timestamp, text: &[u8]) -> Vec<u8> {
    let mut records = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (line, tag) = line.strip_suffix(b"\n").map_or((line, 'P'), |line| (line, 'F'));
        records.extend_from_slice(format!("{now:.9} stdout {tag} ").as_bytes());
        records.extend_from_slice(line);
        records.push(b'\n');
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_output_becomes_records() {
        let now = "2026-01-02T03:04:05.000000006Z".parse().expect("time");
        let text = records(now, b"one\r\n\ntw");
        let text = String::from_utf8(text).expect("text");
        let time = "2026-01-02T03:04:05.000000006Z";
        assert_eq!(text, format!("{time} stdout F one\r\n{time} stdout F \n{time} stdout P tw\n"));
    }
}
