//! `wasi:http` guests over http/2: what its clients may, and what becomes of those who do not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use samara_runtime::StopAction;
use tokio::task::JoinHandle;

use crate::http::Server;
use crate::http_limits::impatient;
use crate::wasm;

crate::trials![
    an_idle_connection_is_closed_after_a_while,
    a_client_that_takes_nothing_of_its_answer_is_given_up,
    a_header_list_that_is_too_large_is_431_and_the_connection_goes_on,
    more_header_frames_than_any_list_needs_end_the_connection,
    one_connection_too_many_is_refused_until_another_ends,
    stopping_finishes_streams_and_lets_the_client_go,
];

const SOON: Duration = Duration::from_secs(30);

/// A connection that the test's runtime drives.
struct Client {
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let stream = tokio::net::TcpStream::connect(server.addresses[0]).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Self { sender, connection: tokio::spawn(connection) }
    }

    fn ask(&mut self, target: &str, header: &str) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let request = Request::get(format!("http://test{target}")).header("x", header).body(Empty::new()).unwrap();
        self.sender.send_request(request)
    }

    /// Status and body.
    async fn get(&mut self, target: &str) -> hyper::Result<(u16, String)> {
        let response = self.ask(target, "").await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Waits until the server has closed the connection.
    async fn closed(self) -> hyper::Result<()> {
        // No further request will come, but the connection stays for as long as the server lets it.
        let _sender = self.sender;
        tokio::time::timeout(SOON, self.connection).await.expect("closed").unwrap()
    }
}

fn ok(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

fn an_idle_connection_is_closed_after_a_while() {
    let server = Server::start(impatient, |_| {});
    wasm::runtime().block_on(async {
        let mut client = Client::connect(&server).await;
        assert_eq!(client.get("/").await.unwrap(), ok("hello"));
        assert_eq!(client.get("/wait?900").await.unwrap(), ok("waited"), "who waits for an answer is not idle");
        client.closed().await.expect("in peace");
        // Nor need it ever have asked.
        Client::connect(&server).await.closed().await.expect("in peace");
    });
}

fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let server = Server::start(impatient, |_| {});
    wasm::runtime().block_on(async {
        let mut client = Client::connect(&server).await;
        let answer = client.ask("/stream?10000", "").await.unwrap();
        let closed = client.closed().await;
        let taken = answer.into_body().collect().await;
        assert!(taken.is_err(), "all of it was sent, and the connection ended with {closed:?}");
    });
    server.guest.stderr.wait_for("GET /stream");
    assert_eq!(server.get("/").0, 200);
}

fn a_header_list_that_is_too_large_is_431_and_the_connection_goes_on() {
    let server = Server::start(|_| {}, |_| {});
    wasm::runtime().block_on(async {
        let mut client = Client::connect(&server).await;
        for (kibibytes, status) in [(60, 200), (70, 431), (60, 200)] {
            let answer = client.ask("/", &"x".repeat(kibibytes * 1024)).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{kibibytes} KiB");
        }
    });
}

fn more_header_frames_than_any_list_needs_end_the_connection() {
    let server = Server::start(|_| {}, |_| {});
    wasm::runtime().block_on(async {
        let mut client = Client::connect(&server).await;
        client.ask("/", &"x".repeat(4 << 20)).await.expect_err("not read to its end");
        assert!(client.closed().await.is_err());
    });
    assert_eq!(server.get("/").0, 200);
}

fn one_connection_too_many_is_refused_until_another_ends() {
    let server = Server::start(|world| world.http.connections = 1, |_| {});
    wasm::runtime().block_on(async {
        let mut first = Client::connect(&server).await;
        assert_eq!(first.get("/").await.unwrap(), ok("hello"));
        Client::connect(&server).await.get("/").await.expect_err("refused");
        assert_eq!(first.get("/").await.unwrap(), ok("hello"), "the first notices nothing");
        drop(first);
        let dropped = Instant::now();
        while Client::connect(&server).await.get("/").await.is_err() {
            assert!(dropped.elapsed() < SOON, "there is room again");
        }
    });
}

fn stopping_finishes_streams_and_lets_the_client_go() {
    let server = Server::start(|_| {}, |_| {});
    let runtime = wasm::runtime();
    let client = runtime.block_on(async {
        let mut client = Client::connect(&server).await;
        let mut slow = std::pin::pin!(client.ask("/wait?1500", ""));
        // So that it is under way.
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut slow).await.is_err());
        assert_eq!(server.guest.handle.stop(SOON), StopAction::Draining);
        // Who asks now is answered still, and told to go: the next would find no connection.
        assert_eq!(client.get("/").await.unwrap(), ok("hello"));
        let waited = slow.await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(waited, "waited", "a stream that was open is finished");
        client.ask("/", "").await.expect_err("not taken any more");
        client
    });
    runtime.block_on(client.closed()).expect("in peace");
    assert_eq!(server.guest.wait().exit.code, 0);
}
