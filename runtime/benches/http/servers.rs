//! The servers that are compared, each in a process of its own that says its port and serves until it is ended.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use samara_runtime::{OnListen, Stop, World};

use crate::wasm;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// hyper without a guest.
    Native,
    /// An instance for each request.
    Fresh,
    /// Instances that answer many requests.
    Reused,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Native, Self::Fresh, Self::Reused];

    /// What the table and the process call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native hyper",
            Self::Fresh => "instance per request",
            Self::Reused => "instance reused",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A server that runs. Ends with the value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        let mut command = Command::new(wasm::exe());
        let mut child = command.arg0(kind.name()).stdout(Stdio::piped()).spawn().expect("the bench starts itself");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the server says its address");
        let address = line.trim().parse().unwrap_or_else(|error| panic!("{}: {line:?}: {error}", kind.name()));
        Self { child, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the load has told already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn main(kind: Kind) -> ExitCode {
    match kind {
        Kind::Native => wasm::runtime().block_on(native()),
        Kind::Fresh => guest(1),
        Kind::Reused => guest(u32::MAX),
    }
    ExitCode::FAILURE
}

async fn native() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    println!("{}", listener.local_addr().expect("its address"));
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a socket option");
        let service = service_fn(async |_: Request<hyper::body::Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

fn guest(reuse: u32) {
    let program =
        wasm::host().load(wasm::compiled(&wasm::component("server")).expect("it compiles")).expect("it loads");
    let mut world = World::default();
    world.network.pod_ips = vec![Ipv4Addr::LOCALHOST.into()];
    world.http.port = 0;
    world.http.reuse = reuse;
    world.on_listen = Some(OnListen::new(|address| println!("{address}")));
    let (_handle, stop) = Stop::new();
    let exit = program.run(wasm::host(), world, stop);
    eprintln!("{exit:?}");
}
