//! What comes over a control connection, message by message, and not faster than a container may speak.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::allowance::Allowance;
use super::frame;
use crate::zygote::wire;

/// The receiving half.
#[derive(Debug)]
pub(super) struct Hearing {
    stream: Arc<UnixStream>,
    /// Not decoded yet.
    received: Vec<u8>,
    allowance: Allowance,
}

impl Hearing {
    pub(super) fn new(stream: Arc<UnixStream>) -> Self {
        Self { stream, received: Vec::new(), allowance: Allowance::new(Instant::now()) }
    }

    /// The first message and the files beside it; `None` at the end.
    pub(super) async fn greeting<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (mut bytes, mut files) = ([0; 4096], Vec::new());
        let receive = || wire::receive(self.stream.as_fd(), &mut bytes, &mut files);
        // They come beside its first byte.
        match self.stream.async_io(Interest::READABLE, receive).await {
            Ok(0) => return Ok(None),
            Ok(length) => self.received.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(self.next().await?.map(|greeting| (greeting, files)))
    }

    /// `None` at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(message) = frame::decode(&mut self.received)? {
                return Ok(Some(message));
            }
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.received) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    let wait = self.allowance.spend(length, Instant::now());
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Connected, Event, Hello, Message, State, VERSION, connect, frame};
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    /// The clock stands still but for what the front waits by itself.
    #[tokio::test(start_paused = true)]
    async fn a_container_that_talks_without_end_is_heard_slowly() {
        const SAID: usize = 1 << 20;
        let bundle = tempfile::tempdir().expect("directory");
        let listener = UnixListener::bind(bundle.path().join("control.sock")).expect("listen");
        let container = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a front");
            let hello = Hello { version: VERSION, state: State::Running, listening: vec![], warnings: vec![] };
            stream.write_all(&frame::encode(&hello).expect("hello")).expect("said");
            let event = Message::Event(Event::Ended { exit_code: 0, oom: false });
            let event = frame::encode(&event).expect("event");
            for _ in 0..SAID / event.len() {
                stream.write_all(&event).expect("said");
            }
        });
        let began = tokio::time::Instant::now();
        let Connected { control, mut events, .. } = connect(bundle.path()).await.expect("connected");
        while events.recv().await.is_some() {}
        control.closed().await;
        assert!(control.is_closed());
        let (took, at_least) = (began.elapsed(), Duration::from_secs(25));
        assert!(took > at_least, "a mebibyte was heard within {took:?}");
        container.join().expect("container");
    }
}
