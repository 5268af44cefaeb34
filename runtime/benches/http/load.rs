//! The load: so many requests on so many connections that are kept, one at a time on each.
//!
//! Knows just enough of http to wait for an answer's end, so that it leaves the machine to the server.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// `argv[0]` of the load.
pub(crate) const NAME: &str = "http load";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const BODY: &[u8] = b"\r\n\r\nhello";

/// Prints the seconds it took.
pub(crate) fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().and_then(|text| text.parse().ok()).expect("an address");
    let mut number = || args.next().and_then(|text| text.parse::<usize>().ok()).expect("a number");
    let (requests, connections) = (number(), number());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    let began = Instant::now();
    let left = Rc::new(Cell::new(requests));
    let all = (0..connections).map(|_| ask(address, Rc::clone(&left)));
    let local = tokio::task::LocalSet::new();
    let done = local.block_on(&runtime, async {
        let tasks: Vec<_> = all.map(tokio::task::spawn_local).collect();
        for task in tasks {
            task.await.map_err(io::Error::other)??;
        }
        Ok::<_, io::Error>(())
    });
    match done {
        Ok(()) => {
            println!("{}", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One connection, until all requests are asked.
async fn ask(address: SocketAddr, left: Rc<Cell<usize>>) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    while let Some(rest) = left.get().checked_sub(1) {
        left.set(rest);
        stream.write_all(REQUEST).await?;
        let mut filled = 0;
        while !buffer[..filled].ends_with(BODY) {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                let text = String::from_utf8_lossy(&buffer[..filled]);
                return Err(io::Error::other(format!("not the awaited answer: {text}")));
            }
            filled += read;
        }
        if !buffer.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other("not 200"));
        }
    }
    Ok(())
}
