//! `wasi:http` guests, as clients see them.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use samara_runtime::{OnListen, StopAction, World};

use crate::guest::{Guest, Running};
use crate::wasm;

crate::trials![
    a_request_is_answered_by_an_instance_of_its_own,
    an_instance_answers_further_requests_if_it_may,
    an_answer_that_is_there_at_once_has_a_length_and_one_that_is_not_is_streamed,
    a_connection_is_kept_for_further_requests,
    http_2_by_prior_knowledge_is_answered,
    the_guest_knows_how_it_was_asked,
    what_a_request_prints_goes_to_the_log,
    bodies_of_any_size_are_streamed,
    a_trap_is_500_and_the_server_lives,
    a_guest_that_returns_without_an_answer_is_500,
    a_guest_that_exits_ends_the_server_with_its_code,
    waiting_too_long_is_504,
    requests_wait_beside_each_other,
    computing_too_long_on_every_worker_ends_the_server,
    a_computing_request_leaves_the_other_workers_alone,
    a_request_without_host_is_400,
    a_head_that_is_too_large_is_refused,
    a_taken_port_is_no_start,
    it_tells_when_it_listens,
    it_listens_on_the_pods_addresses_only,
    stopping_finishes_requests_and_serves_late_clients,
    stopping_closes_idle_connections_and_ends_at_once_when_quiet,
    stopping_before_any_request_ends_in_time,
];

/// The server guest, listening.
pub(crate) struct Server {
    pub(crate) guest: Running,
    pub(crate) addresses: Vec<SocketAddr>,
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Server {
    /// On a free port of the loopback address, unless the test says otherwise.
    pub(crate) fn start(world: impl FnOnce(&mut World), files: impl FnOnce(&Path)) -> Self {
        let mut guest = Guest::new(&wasm::component("server"));
        files(guest.root_path());
        guest.world.network.pod_ips = vec![LOCALHOST];
        guest.world.http.port = 0;
        let (sender, listening) = mpsc::channel();
        guest.world.on_listen = Some(OnListen::new(move |address| sender.send(address).unwrap()));
        world(&mut guest.world);
        let count = guest.world.network.pod_ips.len() + usize::from(guest.world.network.loopback.is_some());
        let guest = guest.start();
        let addresses = (0..count.max(1))
            .map(|_| {
                listening.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{:?}", guest.has_ended()))
            })
            .collect();
        Self { guest, addresses }
    }

    fn plain() -> Self {
        Self::start(|_| {}, |_| {})
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.addresses[0])
    }

    /// Status and body of a GET on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> (u16, String) {
        let answer = self.connect().ask(target);
        (answer.status, answer.body)
    }

    #[track_caller]
    fn stop(self, grace: Duration) -> String {
        assert_eq!(self.guest.handle.stop(grace), StopAction::Draining);
        let ended = self.guest.wait();
        assert_eq!(ended.exit.code, 0, "{ended:?}");
        ended.stderr
    }
}

/// An HTTP/1.1 client that sees what is on the wire.
pub(crate) struct Connection(pub(crate) BufReader<TcpStream>);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Connection {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn ask(&mut self, target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }

    /// Asks for the process's end: nobody is left to answer.
    pub(crate) fn dies_of(mut self, target: &str) {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 500"), "{answer}");
    }

    pub(crate) fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "closed in the head: {head:?}");
        }
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = Vec::new();
        match length {
            Some(length) => {
                body.resize(length.parse().unwrap(), 0);
                self.0.read_exact(&mut body).unwrap();
            }
            None if head.contains("transfer-encoding: chunked") => loop {
                let mut size = String::new();
                self.0.read_line(&mut size).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let start = body.len();
                body.resize(start + size, 0);
                self.0.read_exact(&mut body[start..]).unwrap();
                self.0.read_line(&mut String::new()).unwrap();
                if size == 0 {
                    break;
                }
            },
            None => {}
        }
        Answer { status, headers: head, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// Whether the server closes it.
    pub(crate) fn ends(mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

fn a_request_is_answered_by_an_instance_of_its_own() {
    let server = Server::plain();
    assert_eq!(server.get("/"), (200, "hello".into()));
    for _ in 0..3 {
        assert_eq!(server.get("/count"), (200, "1".into()), "nothing is left of the request before");
    }
    let random: std::collections::HashSet<_> = (0..20).map(|_| server.get("/random").1).collect();
    assert_eq!(random.len(), 20);
    assert_eq!(server.stop(Duration::ZERO), "");
}

fn an_instance_answers_further_requests_if_it_may() {
    let server = Server::start(|world| world.http.reuse = 3, |_| {});
    let counts: Vec<u32> = (0..30).map(|_| server.get("/count").1.parse().unwrap()).collect();
    assert_eq!(counts.iter().max(), Some(&3), "{counts:?}");
    let server = Server::start(|world| world.http.reuse = 1000, |_| {});
    for _ in 0..10 {
        server.get("/count");
    }
    // As many as there may be kept, each is used up by a trap.
    for _ in 0..32 {
        assert_eq!(server.get("/trap").0, 500);
    }
    assert_eq!(server.get("/count").1, "1", "an instance that trapped is not used again");
}

fn an_answer_that_is_there_at_once_has_a_length_and_one_that_is_not_is_streamed() {
    let server = Server::plain();
    let at_once = server.connect().ask("/");
    assert!(at_once.headers.contains("content-length: 5\r\n"), "{}", at_once.headers);
    let streamed = server.connect().ask("/stream?40");
    assert!(streamed.headers.contains("transfer-encoding: chunked\r\n"), "{}", streamed.headers);
    assert_eq!(streamed.body.len(), 40 * 64 * 1024);
}

fn a_connection_is_kept_for_further_requests() {
    let server = Server::plain();
    let mut connection = server.connect();
    for _ in 0..3 {
        let answer = connection.ask("/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        assert!(!answer.headers.contains("connection: close"), "{}", answer.headers);
    }
}

fn http_2_by_prior_knowledge_is_answered() {
    use http_body_util::BodyExt as _;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let server = Server::plain();
    wasm::runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(server.addresses[0]).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        for target in ["/", "/say?two"] {
            let request = http::Request::get(format!("http://test{target}"))
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
            response.into_body().collect().await.unwrap();
        }
        server.guest.handle.stop(Duration::from_secs(10));
        connection.await.unwrap().expect("closed in peace");
    });
}

fn the_guest_knows_how_it_was_asked() {
    let server = Server::plain();
    let mut connection = server.connect();
    connection.send("DELETE /method HTTP/1.1\r\nHost: web.example:8080\r\n\r\n");
    assert_eq!(connection.answer().body, "Method::Delete Some(\"web.example:8080\") Some(Scheme::Http)");
}

fn what_a_request_prints_goes_to_the_log() {
    let server = Server::start(|world| world.env.push(("NAME".into(), "value".into())), |_| {});
    assert_eq!(server.get("/say?text"), (200, "text".into()));
    server.guest.stdout.wait_for("text\n");
    server.guest.stderr.wait_for("text\n");
    assert_eq!(server.get("/env?NAME"), (200, "value".into()));
}

fn bodies_of_any_size_are_streamed() {
    let server = Server::plain();
    let mut connection = server.connect();
    let size = 8 << 20;
    connection.send(&format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n"));
    let mut writer = connection.0.get_ref().try_clone().unwrap();
    let sending = thread::spawn(move || writer.write_all(&vec![b'x'; size]).unwrap());
    let answer = connection.answer();
    sending.join().unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, size));
    assert_eq!(connection.ask("/stream?100").body.len(), 100 * 64 * 1024);
    assert_eq!(connection.ask("/").body, "hello", "the connection is still good");
}

fn a_trap_is_500_and_the_server_lives() {
    let server = Server::plain();
    assert_eq!(server.get("/trap"), (500, "the guest failed to answer".into()));
    let log = server.guest.stderr.wait_for("unreachable");
    assert!(log.contains("GET /trap: wasm trap: wasm `unreachable` instruction executed"), "{log}");
    assert_eq!(server.get("/").0, 200);
}

fn a_guest_that_returns_without_an_answer_is_500() {
    let server = Server::plain();
    assert_eq!(server.get("/silent").0, 500);
    server.guest.stderr.wait_for("GET /silent: the guest returned without an answer\n");
}

fn a_guest_that_exits_ends_the_server_with_its_code() {
    let server = Server::plain();
    server.connect().dies_of("/exit?1");
    assert_eq!(server.guest.wait().exit.code, 1);
}

fn waiting_too_long_is_504() {
    let server = Server::start(|world| world.http.request_timeout = Duration::from_millis(200), |_| {});
    let asked = Instant::now();
    assert_eq!(server.get("/wait?60000").0, 504);
    assert!(asked.elapsed() < Duration::from_secs(20));
    assert_eq!(server.get("/wait?1"), (200, "waited".into()));
}

fn requests_wait_beside_each_other() {
    let server = Server::plain();
    let mut connections: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let asked = Instant::now();
    for connection in &mut connections {
        connection.send("GET /wait?500 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    for connection in &mut connections {
        assert_eq!(connection.answer().body, "waited");
    }
    assert!(asked.elapsed() < Duration::from_secs(8), "one after the other takes ten");
}

fn computing_too_long_on_every_worker_ends_the_server() {
    let server = Server::start(|world| world.http.request_timeout = Duration::from_millis(300), |_| {});
    assert_eq!(server.get("/spin").0, 504);
    let ended = server.guest.exit();
    assert_eq!(ended.code, 134);
    assert!(ended.message.unwrap().contains("GET /spin"));
}

fn a_computing_request_leaves_the_other_workers_alone() {
    let world = |world: &mut World| {
        world.cpus = 2;
        world.http.request_timeout = Duration::from_millis(500);
    };
    let server = Server::start(world, |_| {});
    let mut spinning = server.connect();
    spinning.send("GET /spin HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(spinning.answer().status, 504);
    assert_eq!(server.get("/"), (200, "hello".into()));
    assert_eq!(server.guest.has_ended(), None);
}

fn a_request_without_host_is_400() {
    let server = Server::plain();
    let mut connection = server.connect();
    connection.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(connection.answer().status, 400);
}

fn a_head_that_is_too_large_is_refused() {
    let server = Server::plain();
    let mut connection = server.connect();
    connection.send(&format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(60 * 1024)));
    assert_eq!(connection.answer().status, 200, "60 KiB fit");
    let mut connection = server.connect();
    // The server may answer and close before all of it is sent.
    let _ = write!(connection.0.get_mut(), "GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut answer = Vec::new();
    let _ = connection.0.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.get("/").0, 200);
}

fn a_taken_port_is_no_start() {
    let server = Server::plain();
    let mut guest = Guest::new(&wasm::component("server"));
    guest.world.network.pod_ips = vec![LOCALHOST];
    guest.world.http.port = server.addresses[0].port();
    let ended = guest.run();
    assert_eq!(ended.exit.code, 128);
    let message = ended.exit.message.unwrap();
    assert!(message.contains(&format!("listen on {}: Address already in use", server.addresses[0])), "{message}");
}

fn it_tells_when_it_listens() {
    let server = Server::plain();
    assert_eq!(server.addresses[0].ip(), LOCALHOST);
    assert_ne!(server.addresses[0].port(), 0);
}

fn it_listens_on_the_pods_addresses_only() {
    let world = |world: &mut World| {
        world.network.pod_ips = vec!["127.8.0.1".parse().unwrap()];
        world.network.loopback = Some("127.8.0.2".parse().unwrap());
    };
    let server = Server::start(world, |_| {});
    let ips: Vec<_> = server.addresses.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(ips, ["127.8.0.1", "127.8.0.2"]);
    let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, server.addresses[0].port()));
    assert!(TcpStream::connect(elsewhere).is_err());
    for address in &server.addresses {
        assert_eq!(Connection::to(*address).ask("/").body, "hello");
    }
}

fn stopping_finishes_requests_and_serves_late_clients() {
    let server = Server::plain();
    let address = server.addresses[0];
    let (mut busy, mut idle) = (server.connect(), server.connect());
    assert_eq!(idle.ask("/").status, 200);
    busy.send("GET /wait?1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(server.guest.handle.stop(Duration::from_secs(30)), StopAction::Draining);
    let late = Connection::to(address).ask("/");
    assert_eq!(late.status, 200);
    assert!(late.headers.contains("connection: close"), "{}", late.headers);
    let on_idle = idle.ask("/");
    assert!(on_idle.headers.contains("connection: close"), "{}", on_idle.headers);
    assert_eq!(busy.answer().body, "waited");
    assert!(busy.ends());
    assert_eq!(server.guest.wait().exit.code, 0);
    assert!(TcpStream::connect(address).is_err());
}

fn stopping_closes_idle_connections_and_ends_at_once_when_quiet() {
    let server = Server::plain();
    let mut idle = server.connect();
    idle.ask("/");
    let asked = Instant::now();
    server.stop(Duration::from_secs(30));
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
    assert!(idle.ends());
}

fn stopping_before_any_request_ends_in_time() {
    let asked = Instant::now();
    Server::plain().stop(Duration::from_millis(100));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}
