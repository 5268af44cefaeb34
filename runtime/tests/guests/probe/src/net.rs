//! Sockets: only components have them.

use std::io;

#[cfg(not(target_env = "p2"))]
pub fn run(args: &[&str]) -> io::Result<()> {
    Err(io::Error::other(format!("no such command: {args:?}")))
}

#[cfg(target_env = "p2")]
pub fn run(args: &[&str]) -> io::Result<()> {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
    match *args {
        // Answers one connection with the addresses of both ends as the guest sees them.
        ["serve", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listening on {}", listener.local_addr()?);
            let (mut stream, peer) = listener.accept()?;
            write!(stream, "{} from {peer}", stream.local_addr()?)?;
        }
        ["connect", address] => {
            let mut stream = TcpStream::connect(address)?;
            let mut text = String::new();
            println!("connected {} to {}", stream.local_addr()?, stream.peer_addr()?);
            stream.read_to_string(&mut text)?;
            println!("{text}");
        }
        // Echoes one datagram.
        ["udp-serve", address] => {
            let socket = UdpSocket::bind(address)?;
            println!("bound to {}", socket.local_addr()?);
            let mut buffer = [0; 2048];
            let (length, peer) = socket.recv_from(&mut buffer)?;
            println!("from {peer}");
            socket.send_to(&buffer[..length], peer)?;
        }
        ["udp-ask", local, address, text] => {
            let socket = UdpSocket::bind(local)?;
            socket.send_to(text.as_bytes(), address)?;
            let mut buffer = [0; 2048];
            let (length, peer) = socket.recv_from(&mut buffer)?;
            println!("{} from {peer}", String::from_utf8_lossy(&buffer[..length]));
        }
        ["udp-connect", address, text] => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(address)?;
            socket.send(text.as_bytes())?;
            println!("from {} to {}", socket.local_addr()?, socket.peer_addr()?);
        }
        ["look-up", name] => {
            let mut addresses: Vec<_> = (name, 0).to_socket_addrs()?.map(|address| address.ip().to_string()).collect();
            addresses.sort();
            addresses.dedup();
            println!("{}", addresses.join(","));
        }
        ref other => return Err(io::Error::other(format!("no such command: {other:?}"))),
    }
    Ok(())
}
