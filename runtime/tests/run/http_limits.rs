//! What clients of a `wasi:http` guest may not do, and what becomes of those who do.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use samara_runtime::World;

use crate::http::{Connection, Server};

crate::trials![
    a_body_that_is_too_large_is_413,
    too_many_headers_are_431,
    a_client_that_does_not_finish_its_head_is_not_waited_for,
    an_idle_connection_is_closed_after_a_while,
    a_body_that_stops_coming_ends_for_the_guest,
    a_client_that_takes_nothing_of_its_answer_is_given_up,
    one_connection_too_many_is_503_until_another_ends,
];

pub(crate) fn impatient(world: &mut World) {
    world.http.client_timeout = Duration::from_millis(300);
}

fn a_body_that_is_too_large_is_413() {
    let server = Server::start(|world| world.http.max_body = Some(1000), |_| {});
    let post = |head: &str, body: &str| {
        let mut connection = server.connect();
        connection.send(&format!("POST /echo HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n{body}"));
        connection.answer()
    };
    assert_eq!(post("Content-Length: 1000", &"x".repeat(1000)).body.len(), 1000);
    let announced = post("Content-Length: 1001", "");
    assert_eq!((announced.status, announced.body.as_str()), (413, "the request's body is too large"));
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    assert_eq!(post("Transfer-Encoding: chunked", &format!("{chunk}0\r\n\r\n")).status, 200);
    // The guest reads before it answers.
    let mut connection = server.connect();
    connection.send("POST /length HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(&format!("{chunk}{chunk}0\r\n\r\n"));
    assert_eq!(connection.answer().status, 413);
    assert_eq!(server.get("/").0, 200);
}

fn too_many_headers_are_431() {
    let server = Server::start(|_| {}, |_| {});
    let ask = |count: usize| {
        let mut connection = server.connect();
        let headers: String = (0..count).map(|number| format!("X-{number}: y\r\n")).collect();
        connection.send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{headers}\r\n"));
        connection.answer().status
    };
    assert_eq!(ask(90), 200);
    assert_eq!(ask(200), 431);
}

fn a_client_that_does_not_finish_its_head_is_not_waited_for() {
    let server = Server::start(impatient, |_| {});
    for begun in ["", "GET / HTTP/1.1\r\nHost: te", "PRI * HTTP/2.0\r\n"] {
        let mut connection = server.connect();
        connection.send(begun);
        let asked = Instant::now();
        let answer = connection.rest();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{begun:?}: {answer}");
        assert!(asked.elapsed() >= Duration::from_millis(250), "{begun:?}");
    }
    // However busily it does so.
    let mut connection = server.connect();
    connection.send("GET / HTTP/1.1\r\n");
    let asked = Instant::now();
    while write!(connection.stream(), "X: y\r\n").is_ok() {
        assert!(asked.elapsed() < Duration::from_secs(30), "it is still read");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn an_idle_connection_is_closed_after_a_while() {
    let server = Server::start(impatient, |_| {});
    let mut connection = server.connect();
    assert_eq!(connection.ask("/").status, 200);
    assert_eq!(connection.ask("/wait?600").body, "waited", "who waits for an answer is not idle");
    assert!(connection.ends());
}

fn a_body_that_stops_coming_ends_for_the_guest() {
    let server = Server::start(impatient, |_| {});
    let mut connection = server.connect();
    connection.send("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nten bytes.");
    let answer = connection.answer();
    assert_eq!((answer.status, answer.body.as_str()), (400, "10 bytes, then connection read timeout"));
}

fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let server = Server::start(impatient, |_| {});
    let mut connection = server.connect();
    connection.send("GET /stream?10000 HTTP/1.1\r\nHost: test\r\n\r\n");
    server.guest.stderr.wait_for("GET /stream");
    let mut taken = Vec::new();
    // Reset or ended: it is not all of it.
    let _ = connection.stream().read_to_end(&mut taken);
    assert!(taken.len() < 10_000 * 64 * 1024);
    assert_eq!(server.get("/").0, 200);
}

fn one_connection_too_many_is_503_until_another_ends() {
    let server = Server::start(|world| world.http.connections = 2, |_| {});
    let (mut first, mut second) = (server.connect(), server.connect());
    assert_eq!((first.ask("/").status, second.ask("/").status), (200, 200));
    let refused = server.connect().ask("/");
    assert_eq!((refused.status, refused.body.as_str()), (503, "too many connections"));
    assert!(refused.headers.contains("connection: close"), "{}", refused.headers);
    assert_eq!(first.ask("/").status, 200);
    drop(first);
    let dropped = Instant::now();
    while server.get("/").0 == 503 {
        assert!(dropped.elapsed() < Duration::from_secs(30), "there is room again");
    }
    assert_eq!(second.ask("/").status, 200);
}

impl Connection {
    /// All that comes until the server closes it.
    fn rest(mut self) -> String {
        let mut text = Vec::new();
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    fn stream(&mut self) -> &mut std::net::TcpStream {
        self.0.get_mut()
    }
}
