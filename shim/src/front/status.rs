//! What a new container says while it is set up.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// Longest reason for a failure.
const LONGEST: u64 = 4096;

/// Set-up takes milliseconds. One that waits for a mount that does not answer, or for a cgroup that is frozen, would hold
/// up its pod for ever.
const WITHIN: Duration = Duration::from_secs(30);

/// Nothing is good news: the container is ready. Else its reason.
pub(super) async fn read(status: OwnedFd) -> io::Result<String> {
    rustix::io::ioctl_fionbio(&status, true)?;
    let mut status = pipe::Receiver::from_owned_fd(status)?.take(LONGEST);
    let mut said = Vec::new();
    let silent = |_elapsed| {
        let message = format!("the container was not set up within {} s", WITHIN.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, message)
    };
    tokio::time::timeout(WITHIN, status.read_to_end(&mut said)).await.map_err(silent)??;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_container_that_says_nothing_and_does_not_finish_is_given_up() {
        let (reader, _writer) = rustix::pipe::pipe().expect("pipe");
        let error = read(reader).await.expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("30 s"), "{error}");
    }

    #[tokio::test]
    async fn silence_at_the_end_is_good_news_and_words_are_a_reason() {
        let said = |words: &'static [u8]| async move {
            let (reader, writer) = rustix::pipe::pipe().expect("pipe");
            rustix::io::write(&writer, words).expect("written");
            drop(writer);
            read(reader).await.expect("read")
        };
        assert_eq!(said(b"").await, "");
        assert_eq!(said(b"no such import\n").await, "no such import");
        assert_eq!(said(&[b'x'; 5000]).await.len(), 4096);
    }
}
