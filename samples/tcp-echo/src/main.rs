//! Sends back what each connection sends, on all addresses at `$PORT` (default 7000).
//! `std::net` on wasm32-wasip2 is `wasi:sockets`; with no threads, one `poll` waits for all connections.

mod ready;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::{env, process};

fn main() {
    let port = match env::var("PORT").map(|text| text.parse::<u16>()) {
        Err(_) => 7000,
        Ok(Ok(port)) => port,
        Ok(Err(error)) => {
            eprintln!("tcp-echo: PORT must be a port number: {error}");
            process::exit(2);
        }
    };
    if let Err(error) = serve(port) {
        eprintln!("tcp-echo: {error}");
        process::exit(1);
    }
}

fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    listener.set_nonblocking(true)?;
    println!("tcp-echo: listening on {}", listener.local_addr()?);
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let mut waits = vec![(listener.as_raw_fd(), ready::Wish::Read)];
        waits.extend(connections.iter().map(|connection| {
            let wish = match connection.pending.is_empty() {
                true => ready::Wish::Read,
                false => ready::Wish::Write,
            };
            (connection.stream.as_raw_fd(), wish)
        }));
        let ready = ready::wait(&waits)?;
        let mut ready = ready.into_iter();
        let accept = ready.next().unwrap_or(false);
        connections.retain_mut(|connection| {
            !ready.next().unwrap_or(false) || connection.step().unwrap_or(false)
        });
        if accept {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    connections.push(Connection {
                        stream,
                        pending: Vec::new(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => eprintln!("tcp-echo: accept: {error}"),
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Read and not yet sent back; nothing more is read until it is gone.
    pending: Vec<u8>,
}

impl Connection {
    /// One read or one write; `false` when the connection is over.
    fn step(&mut self) -> io::Result<bool> {
        let outcome = if self.pending.is_empty() {
            self.receive()
        } else {
            self.send()
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            other => other,
        }
    }

    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        self.pending.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    fn send(&mut self) -> io::Result<bool> {
        let count = self.stream.write(&self.pending)?;
        self.pending.drain(..count);
        Ok(count > 0)
    }
}
