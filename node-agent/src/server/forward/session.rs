//! One client's session: frames in, connections to the pod, frames out.

use std::collections::HashMap;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Target;
use super::frames::{self, Decoder, Frame, FrameError};
use super::headers::{self, HeaderError};
use super::streams::{Connection, Kind, Streams};
use crate::network::{connect, connect_inside};

/// Connections at one time.
const MOST: usize = 256;
/// Frames that wait to be sent, and pieces that wait for a pod.
const QUEUE: usize = 16;
/// Read from a pod at once.
const CHUNK: usize = 32 << 10;
/// A pod of this node answers at once, or not at all.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// Also for whoever is between us and the client and ends what is silent.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The client breaks the protocol.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Runs it until the client goes.
pub(super) async fn run(socket: WebSocket, target: Target) {
    let (mut sink, frames) = socket.split();
    let (unsent, mut queue) = mpsc::channel(QUEUE);
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let send = async {
        loop {
            let message = tokio::select! {
                Some(frame) = queue.recv() => Message::Binary(frame),
                _tick = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return Ok(());
            }
        }
    };
    let mut session = Session::new(target, unsent);
    let name = session.target.name.clone();
    let pieces = frames.take_while(|message| ready(message.is_ok())).filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(piece)) => Some(piece),
            Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_)) | Err(_) => None,
        })
    });
    let ended = tokio::select! {
        ended = session.listen(pieces) => ended,
        ended = send => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(pod = name, %error, "a client of port-forward breaks the protocol");
    }
}

struct Session {
    target: Target,
    reader: headers::Reader,
    /// Ours that were sent.
    replies: usize,
    streams: Streams,
    /// Streams of data, until either end has ended them.
    open: HashMap<u32, Open>,
    connections: JoinSet<u32>,
    unsent: mpsc::Sender<Bytes>,
}

/// What the client may still send.
struct Open {
    input: mpsc::Sender<Bytes>,
    /// Until the connection begins.
    output: Option<mpsc::Receiver<Bytes>>,
    reset: CancellationToken,
}

impl Session {
    fn new(target: Target, unsent: mpsc::Sender<Bytes>) -> Self {
        Self {
            target,
            reader: headers::Reader::new(),
            replies: 0,
            streams: Streams::default(),
            open: HashMap::new(),
            connections: JoinSet::new(),
            unsent,
        }
    }

    async fn listen(&mut self, pieces: impl Stream<Item = Bytes>) -> Result<(), Broken> {
        let mut pieces = std::pin::pin!(pieces);
        let mut decoder = Decoder::default();
        loop {
            tokio::select! {
                piece = pieces.next() => match piece {
                    Some(piece) => decoder.push(&piece),
                    None => return Ok(()),
                },
                Some(Ok(data)) = self.connections.join_next() => drop(self.open.remove(&data)),
            }
            while let Some(frame) = decoder.next()? {
                self.take(frame).await?;
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Broken> {
        match frame {
            Frame::Open { stream, block } => {
                let headers = self.reader.read(&block)?;
                self.opened(stream, &headers).await;
            }
            Frame::Headers { block } => drop(self.reader.read(&block)?),
            Frame::Data { stream, data, last } => {
                if let Some(open) = self.open.get(&stream)
                    && !data.is_empty()
                {
                    // A pod that reads no more is told of by the end of its stream.
                    drop(open.input.send(data).await);
                }
                if last && let Some(open) = self.open.get_mut(&stream) {
                    // Nothing comes after this: the pod reads the end once it has read the rest.
                    open.input = mpsc::channel(1).0;
                }
            }
            Frame::Reset { stream } => {
                self.streams.reset(stream);
                if let Some(open) = self.open.remove(&stream) {
                    open.reset.cancel();
                }
            }
            Frame::Ping { id } => self.send(frames::pong(id)).await,
            Frame::GoAway | Frame::Other => {}
        }
        Ok(())
    }

    async fn opened(&mut self, stream: u32, headers: &headers::Headers) {
        let opened = match self.streams.open(stream, headers) {
            Ok(opened) if self.connections.len() < MOST && self.open.len() < MOST => opened,
            refused => {
                self.streams.reset(stream);
                tracing::debug!(pod = self.target.name, stream, ?refused, "a stream of port-forward is refused");
                return self.send(frames::refuse(stream)).await;
            }
        };
        self.send(frames::reply(stream, headers::empty(self.replies))).await;
        self.replies += 1;
        if opened.kind == Kind::Data {
            let (input, output) = mpsc::channel(QUEUE);
            self.open.insert(stream, Open { input, output: Some(output), reset: CancellationToken::new() });
        }
        let Some(connection) = opened.connection else { return };
        let Some(open) = self.open.get_mut(&connection.data) else { return };
        let Some(input) = open.output.take() else { return };
        let carried = carry(self.target.clone(), connection, input, open.reset.clone(), self.unsent.clone());
        self.connections.spawn(carried);
    }

    async fn send(&self, frame: Bytes) {
        // Whoever sends ends the session when the client is gone.
        drop(self.unsent.send(frame).await);
    }
}

/// Carries one connection to its end, and tells that; gives its stream of data.
async fn carry(
    target: Target,
    connection: Connection,
    input: mpsc::Receiver<Bytes>,
    reset: CancellationToken,
    unsent: mpsc::Sender<Bytes>,
) -> u32 {
    let Connection { port, data, error } = connection;
    let carried = reset.run_until_cancelled(exchange(&target, port, data, input, &unsent)).await;
    let wrong = match carried {
        Some(Err(wrong)) => {
            tracing::debug!(pod = target.name, port, %wrong, "a forwarded connection failed");
            format!("error forwarding port {port} to pod {}, uid {}: {wrong}", target.name, target.uid)
        }
        Some(Ok(())) | None => String::new(),
    };
    // The client waits for the end of both, also of a stream that it has given up.
    for last in [frames::data(error, wrong.as_bytes(), true), frames::data(data, b"", true)] {
        drop(unsent.send(last).await);
    }
    data
}

async fn exchange(
    target: &Target,
    port: u16,
    data: u32,
    mut input: mpsc::Receiver<Bytes>,
    unsent: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let connected = tokio::time::timeout(CONNECTS_WITHIN, reach(target, port)).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten();
    let stream = stream.map_err(|error| {
        io::Error::new(error.kind(), format!("failed to connect to {}: {error}", SocketAddr::new(target.ip, port)))
    })?;
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let towards = async {
        while let Some(piece) = input.recv().await {
            if write.write_all(&piece).await.is_err() {
                break;
            }
        }
        // It may go on writing when nothing more comes.
        drop(write.shutdown().await);
        std::future::pending().await
    };
    let back = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match read.read(&mut buffer).await? {
                0 => return Ok(()),
                count if unsent.send(frames::data(data, &buffer[..count], false)).await.is_err() => return Ok(()),
                _ => {}
            }
        }
    };
    tokio::select! {
        ended = back => ended,
        ended = towards => ended,
    }
}

/// A guest that listens on its loopback alone refuses on its own address.
async fn reach(target: &Target, port: u16) -> io::Result<TcpStream> {
    match (connect(SocketAddr::new(target.ip, port)).await, &target.loopback) {
        (Err(error), Some((namespace, loopback))) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let inside = connect_inside(namespace.clone(), SocketAddr::new(*loopback, port));
            inside.await.map_err(|_also_refused| error)
        }
        (connected, _) => connected,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::ReceiverStream;

    use super::super::frames::tests::{open, reset};
    use super::super::headers::tests::stored;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 7));

    /// A session with a pod at 127.0.0.1, and the client's end of it.
    struct Client {
        unsent: Option<mpsc::Sender<Bytes>>,
        frames: mpsc::Receiver<Bytes>,
        ended: tokio::task::JoinHandle<Result<(), Broken>>,
        opened: u32,
    }

    impl Client {
        fn new() -> Self {
            let (unsent, pieces) = mpsc::channel(QUEUE);
            let (out, frames) = mpsc::channel(QUEUE);
            // The namespace of this test is the pod's too.
            let loopback = Some(("/proc/self/ns/net".into(), LOOPBACK));
            let (name, uid) = ("shop/web".to_owned(), "u".to_owned());
            let target = Target { ip: [127, 0, 0, 1].into(), loopback, name, uid };
            let mut session = Session::new(target, out);
            let ended = tokio::spawn(async move { session.listen(ReceiverStream::new(pieces)).await });
            Self { unsent: Some(unsent), frames, ended, opened: 0 }
        }

        async fn send(&self, frame: Bytes) {
            self.unsent.as_ref().unwrap().send(frame).await.unwrap();
        }

        /// Opens both streams of a connection, and gives the numbers of those for errors and data.
        async fn connect(&mut self, port: u16) -> (u32, u32) {
            let (port, request) = (port.to_string(), self.opened.to_string());
            let mut numbers = [0; 2];
            for (kind, number) in ["error", "data"].into_iter().zip(&mut numbers) {
                let headers = [("streamtype", kind), ("port", &*port), ("requestid", &*request)];
                *number = self.opened * 2 + 1;
                self.send(open(*number, &stored(&headers, self.opened == 0))).await;
                self.opened += 1;
            }
            self.send(frames::data(numbers[0], b"", true)).await;
            (numbers[0], numbers[1])
        }

        async fn next(&mut self) -> Frame {
            let bytes = tokio::time::timeout(LIMIT, self.frames.recv()).await.expect("a frame").expect("a session");
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            decoder.next().unwrap().unwrap()
        }

        /// What came on both streams until both had ended.
        async fn rest(&mut self, (error, data): (u32, u32)) -> (String, Vec<u8>) {
            let (mut wrong, mut bytes, mut ends) = (String::new(), Vec::new(), 0);
            while ends < 2 {
                if let Frame::Data { stream, data: piece, last } = self.next().await {
                    match stream {
                        stream if stream == error => wrong.push_str(std::str::from_utf8(&piece).unwrap()),
                        stream if stream == data => bytes.extend(&piece),
                        other => panic!("stream {other}"),
                    }
                    ends += u32::from(last);
                }
            }
            (wrong, bytes)
        }
    }

    /// A pod that writes back what it is sent, and closes when that is over.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn what_is_sent_comes_to_the_pod_and_what_it_answers_comes_back_to_the_last_byte() {
        let port = echo().await;
        let mut client = Client::new();
        for text in ["first", "second"] {
            let streams = client.connect(port).await;
            client.send(frames::data(streams.1, text.as_bytes(), false)).await;
            client.send(frames::data(streams.1, b" and last", true)).await;
            let want = format!("{text} and last").into_bytes();
            assert_eq!(client.rest(streams).await, (String::new(), want));
        }
        client.send(frames::pong(9)).await;
        assert_eq!(client.next().await, Frame::Ping { id: 9 });
        client.unsent = None;
        client.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_guest_that_listens_on_its_loopback_alone_is_reached_and_hears_itself() {
        // A port that is ours, and deaf, at the pod's address.
        let deaf = tokio::net::TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = deaf.local_addr().unwrap().port();
        let listener = TcpListener::bind((LOOPBACK, port)).await.unwrap();
        let mut client = Client::new();
        let streams = client.connect(port).await;
        client.send(frames::data(streams.1, b"hello", true)).await;
        let (mut pod, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), LOOPBACK);
        let mut heard = String::new();
        pod.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
        pod.write_all(b"hello yourself").await.unwrap();
        drop(pod);
        assert_eq!(client.rest(streams).await, (String::new(), b"hello yourself".to_vec()));
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_told_on_the_stream_for_errors() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut client = Client::new();
        let streams = client.connect(free).await;
        let (wrong, bytes) = client.rest(streams).await;
        assert!(
            wrong.starts_with(&format!("error forwarding port {free} to pod shop/web, uid u: failed to connect")),
            "{wrong}"
        );
        assert!(wrong.contains("refused") && bytes.is_empty(), "{wrong}");
    }

    #[tokio::test]
    async fn a_connection_that_the_client_gives_up_is_closed_and_both_streams_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::new();
        let streams = client.connect(listener.local_addr().unwrap().port()).await;
        let (mut pod, _) = listener.accept().await.unwrap();
        client.send(reset(streams.1)).await;
        assert_eq!(client.rest(streams).await, (String::new(), Vec::new()));
        let read = tokio::time::timeout(LIMIT, pod.read(&mut [0; 8])).await.expect("the pod hears of it");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    #[tokio::test]
    async fn a_stream_of_no_connection_is_refused_and_nonsense_ends_the_session() {
        let mut client = Client::new();
        client.send(open(1, &stored(&[("streamtype", "stdin"), ("port", "80")], true))).await;
        assert_eq!(client.next().await, Frame::Reset { stream: 1 });
        client.send(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")).await;
        let ended = tokio::time::timeout(LIMIT, client.ended).await.expect("it ends").unwrap();
        assert!(matches!(ended, Err(Broken::Frame(FrameError::TooLong(_)))), "{ended:?}");
    }
}
