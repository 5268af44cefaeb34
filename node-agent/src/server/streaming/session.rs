//! The pump between a WebSocket and a process's pipes.
//!
//! Three things go on until the process ends or the client goes: the client's frames are read and carried out, the
//! outputs are read and framed, the end is waited for. Each may be slow without memory growing: a process that does not
//! read holds up its client, a client that does not read holds up its process.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, Stream, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::outcome::Outcome;
use super::protocol::{Channel, Protocol, Said, Size};

/// A client that is gone without a word is noticed by one of these.
const PING_EVERY: Duration = Duration::from_secs(15);
/// After the end of a process its outputs are at their ends as well; one that is still open is given up.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For the client to close after us, so that what it has not read yet is not thrown away with the connection.
const GOODBYE: Duration = Duration::from_secs(5);
/// Frames on their way to the client.
const UNSENT: usize = 4;

/// What comes out of a process.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// One process to speak with.
pub(super) trait Subject: Send + Sync {
    /// New size of its terminal.
    fn resize(&self, size: Size) -> impl Future<Output = ()> + Send;
    /// The client's input is at its end.
    fn end_input(&self) -> impl Future<Output = ()> + Send;
    /// Returns when it has ended.
    fn ended(&self) -> impl Future<Output = Outcome> + Send;
}

/// Its pipes.
pub(super) struct Streams {
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: Option<Pieces>,
    pub(super) stderr: Option<Pieces>,
}

/// Who ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Process(Outcome),
    /// Without the process having ended.
    Client,
}

/// The two directions of a connection.
pub(super) struct Session {
    protocol: Protocol,
    sink: SplitSink<WebSocket, Message>,
    frames: SplitStream<WebSocket>,
}

impl Session {
    pub(super) fn new(socket: WebSocket, protocol: Protocol) -> Self {
        let (sink, frames) = socket.split();
        Self { protocol, sink, frames }
    }

    /// An empty frame says that we are here, on the first channel that we write (kubelet: `createWebSocketStreams`).
    pub(super) async fn greet(&mut self, wanted: super::Wanted) {
        let channel = match (wanted.stdout, wanted.stderr) {
            (true, _) => Channel::Stdout,
            (false, true) => Channel::Stderr,
            (false, false) => Channel::Error,
        };
        let _noticed_later = self.sink.send(self.protocol.frame(channel, &[])).await;
    }

    /// Until the process has ended and all it wrote is sent, or the client is gone.
    pub(super) async fn pump(&mut self, subject: &impl Subject, streams: Streams) -> Ended {
        let Self { protocol, sink, frames } = self;
        let (unsent, queue) = mpsc::channel(UNSENT);
        let over = CancellationToken::new();
        let process = async {
            let (out, err) = (unsent.clone(), unsent);
            let outputs = async {
                tokio::join!(
                    output(*protocol, Channel::Stdout, streams.stdout, out, &over),
                    output(*protocol, Channel::Stderr, streams.stderr, err, &over),
                );
            };
            let ended = async {
                let outcome = subject.ended().await;
                over.cancel();
                outcome
            };
            tokio::join!(ended, outputs).0
        };
        // Ends with the queue, which ends with the process.
        let sent = async { tokio::join!(process, send(sink, queue)) };
        tokio::select! {
            (outcome, sent) = sent => if sent { Ended::Process(outcome) } else { Ended::Client },
            () = listen(*protocol, frames, subject, streams.stdin) => Ended::Client,
        }
    }

    /// Tells the end, and lets the client close.
    pub(super) async fn close(mut self, outcome: &Outcome) {
        let mut goodbye = Vec::new();
        goodbye.extend(outcome.told(self.protocol).map(|told| self.protocol.frame(Channel::Error, &told)));
        goodbye.push(Message::Close(Some(CloseFrame { code: 1000, reason: "".into() })));
        for message in goodbye {
            if self.sink.send(message).await.is_err() {
                return;
            }
        }
        let until = Instant::now() + GOODBYE;
        while let Ok(Some(Ok(_))) = tokio::time::timeout_at(until, self.frames.next()).await {}
    }
}

/// Carries out what the client says; returns when it is gone or breaks the protocol.
async fn listen(
    protocol: Protocol,
    frames: &mut SplitStream<WebSocket>,
    subject: &impl Subject,
    mut stdin: Option<pipe::Sender>,
) {
    while let Some(Ok(message)) = frames.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        match protocol.read(data) {
            Ok(Said::Stdin(data)) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    // It reads no more; it may still write.
                    stdin = None;
                }
            }
            Ok(Said::StdinEnded) => {
                if stdin.take().is_some() {
                    subject.end_input().await;
                }
            }
            Ok(Said::Resize(size)) => subject.resize(size).await,
            Ok(Said::Nothing) => {}
            Err(error) => {
                tracing::debug!(%error, "a client breaks the protocol");
                return;
            }
        }
    }
}

/// Frames one output to its end; after the end of the process not for long.
async fn output(
    protocol: Protocol,
    channel: Channel,
    pieces: Option<Pieces>,
    unsent: mpsc::Sender<Message>,
    over: &CancellationToken,
) {
    let Some(mut pieces) = pieces else { return };
    loop {
        let piece = tokio::select! {
            biased;
            piece = pieces.next() => piece,
            () = given_up(over) => return,
        };
        let Some(Ok(piece)) = piece else { return };
        if unsent.send(protocol.frame(channel, &piece)).await.is_err() {
            return;
        }
    }
}

async fn given_up(over: &CancellationToken) {
    over.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// `false`: the client is gone.
async fn send(sink: &mut SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Message>) -> bool {
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = queue.recv() => match message {
                Some(message) => message,
                None => return true,
            },
            _tick = ping.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return false;
        }
    }
}
