//! Ports of the host, passed on to an address that only this host reaches: `hostPort` of a pod, `-p` of `samara run`.
//!
//! Done by a process and not by the kernel's address translation, so it works in every namespace and needs nothing set
//! up. What it costs: the guest sees connections come from this host, and ports close with the process.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::netns;
use super::places::Places;

/// After a connection that could not be taken: the next try would fail alike.
const NOT_TAKEN: Duration = Duration::from_millis(100);

/// How often the machine's addresses are looked at.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// For a port that is free at all addresses of the machine.
const MOST_TRIES: u32 = 32;

/// What is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// One port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub transport: Transport,
    /// Port 0: any free one.
    pub listen: SocketAddr,
    pub to: SocketAddr,
}

/// The host's port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listen on {listen}")]
pub struct ForwardError {
    pub listen: SocketAddr,
    pub source: io::Error,
}

/// The open ports. They close when this goes.
#[derive(Debug, Default)]
pub struct Forwarder {
    listening: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

/// A sender of datagrams that is silent for so long is forgotten, and with it the way back to it.
const UDP_SILENCE: Duration = Duration::from_secs(60);
/// Senders of datagrams at once; more are not heard until others are silent.
const MOST_SENDERS: usize = 1024;
/// Datagrams that wait for one guest socket.
const UDP_QUEUE: usize = 64;
const MOST_DATAGRAM: usize = 65_535;

impl Forwarder {
    /// Listens on every port or on none.
    pub async fn open(wanted: &[Forward]) -> Result<Self, ForwardError> {
        let (mut listening, mut tasks) = (Vec::new(), JoinSet::new());
        for forward in wanted {
            let failed = |source| ForwardError { listen: forward.listen, source };
            let (port, sockets) = everywhere(forward).await.map_err(failed)?;
            listening.push(SocketAddr::new(forward.listen.ip(), port));
            tasks.spawn(keep(Forward { listen: SocketAddr::new(forward.listen.ip(), port), ..*forward }, sockets));
        }
        Ok(Self { listening, _tasks: tasks })
    }

    /// In the order of what was wanted, with the ports that were found.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }
}

/// One address that is listened at.
enum Socket {
    Stream(TcpListener),
    Datagrams(UdpSocket),
}

impl Socket {
    async fn bind(transport: Transport, at: SocketAddr) -> io::Result<Self> {
        match transport {
            Transport::Tcp => TcpListener::bind(at).await.map(Self::Stream),
            Transport::Udp => UdpSocket::bind(at).await.map(Self::Datagrams),
        }
    }

    fn port(&self) -> io::Result<u16> {
        match self {
            Self::Stream(listener) => listener.local_addr().map(|at| at.port()),
            Self::Datagrams(socket) => socket.local_addr().map(|at| at.port()),
        }
    }

    async fn pass_on(self, to: SocketAddr) {
        match self {
            Self::Stream(listener) => serve(listener, to).await,
            Self::Datagrams(socket) => relay(Arc::new(socket), to).await,
        }
    }
}

type Sockets = BTreeMap<SocketAddr, Socket>;

/// Listens at every place, or at none; of free ports one is looked for that is free at all of them.
async fn everywhere(forward: &Forward) -> io::Result<(u16, Sockets)> {
    let mut tries = 0;
    loop {
        tries += 1;
        match at_all(forward).await {
            Err(error)
                if forward.listen.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && tries < MOST_TRIES => {}
            outcome => return outcome,
        }
    }
}

async fn at_all(forward: &Forward) -> io::Result<(u16, Sockets)> {
    let (mut port, mut sockets) = (forward.listen.port(), Sockets::new());
    for mut at in Places::of(forward.listen, forward.to.ip()).now()? {
        at.set_port(port);
        match Socket::bind(forward.transport, at).await {
            Ok(socket) => {
                port = socket.port()?;
                at.set_port(port);
                sockets.insert(at, socket);
            }
            // It went in this moment, or is not ready yet.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && at.ip() != forward.listen.ip() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((port, sockets))
}

/// Passes on what comes, also at addresses that the machine gets later.
async fn keep(forward: Forward, sockets: Sockets) {
    let mut open = JoinSet::new();
    let mut serving: BTreeMap<SocketAddr, AbortHandle> = BTreeMap::new();
    for (at, socket) in sockets {
        serving.insert(at, open.spawn(socket.pass_on(forward.to)));
    }
    let places = Places::of(forward.listen, forward.to.ip());
    if matches!(places, Places::Fixed(_)) {
        while open.join_next().await.is_some() {}
        return;
    }
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        let Ok(now) = places.now() else { continue };
        serving.retain(|at, task| {
            let stays = now.contains(at);
            if !stays {
                task.abort();
            }
            stays
        });
        for at in now {
            // What is taken there may be free the next time.
            if !serving.contains_key(&at)
                && let Ok(socket) = Socket::bind(forward.transport, at).await
            {
                serving.insert(at, open.spawn(socket.pass_on(forward.to)));
            }
        }
    }
}

/// Where a connection to a guest must come from: of this machine's own addresses the socket layer lets a guest hear from
/// its own only; elsewhere the kernel chooses.
fn source_towards(to: IpAddr) -> Option<SocketAddr> {
    let guests = to.is_loopback() && to != IpAddr::V4(Ipv4Addr::LOCALHOST) && to.is_ipv4();
    guests.then(|| SocketAddr::new(to, 0))
}

/// Connects as `source_towards` says.
pub async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = source_towards(to.ip()) {
        socket.bind(from)?;
    }
    socket.connect(to).await
}

/// Connects to a guest at an address that only its network namespace knows, as the guest itself would: from that address.
pub async fn connect_inside(namespace: PathBuf, to: SocketAddr) -> io::Result<TcpStream> {
    // A socket stays in the namespace of the thread that makes it.
    let make =
        move || netns::inside(&namespace, || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() });
    let socket = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?.map_err(io::Error::other)??;
    socket.bind(SocketAddr::new(to.ip(), 0))?;
    socket.connect(to).await
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(pass_on(stream, to))),
                // Out of files, most likely, or the caller went: not one connection's end is to be waited for.
                Err(error) => {
                    tracing::warn!(%error, %to, "a connection to a published port is not taken");
                    tokio::time::sleep(NOT_TAKEN).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass_on(mut from: TcpStream, to: SocketAddr) -> io::Result<()> {
    // A guest that does not listen yet: the caller's connection is closed, as a refused one would be.
    let mut to = connect(to).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    copy_bidirectional(&mut from, &mut to).await.map(drop)
}

/// Each sender has a socket of its own towards the guest, by which answers find their way back.
async fn relay(socket: Arc<UdpSocket>, to: SocketAddr) {
    let mut senders: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut relays = JoinSet::new();
    let mut buffer = vec![0; MOST_DATAGRAM];
    loop {
        let (length, from) = tokio::select! {
            Some(silent) = relays.join_next() => {
                // One that has spoken again in the meantime has another relay.
                if let Ok(from) = silent && senders.get(&from).is_some_and(mpsc::Sender::is_closed) {
                    senders.remove(&from);
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An earlier answer found nobody; the next datagram may.
                Err(_) => continue,
            },
        };
        let known = senders.get(&from).filter(|sender| !sender.is_closed());
        let sender = match known {
            Some(sender) => sender,
            None if senders.len() >= MOST_SENDERS => continue,
            None => {
                let (sender, datagrams) = mpsc::channel(UDP_QUEUE);
                relays.spawn(relay_one(socket.clone(), from, to, datagrams));
                senders.entry(from).insert_entry(sender).into_mut()
            }
        };
        // As a socket's own buffer does: what does not fit is lost.
        drop(sender.try_send(buffer[..length].to_vec()));
    }
}

/// Gives back whom it was for, once that has been silent.
async fn relay_one(
    socket: Arc<UdpSocket>,
    from: SocketAddr,
    to: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) -> SocketAddr {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let local = source_towards(to.ip()).unwrap_or(SocketAddr::new(any, 0));
    let connected = async {
        let guest = UdpSocket::bind(local).await?;
        guest.connect(to).await?;
        io::Result::Ok(guest)
    };
    let Ok(guest) = connected.await else { return from };
    let mut buffer = vec![0; MOST_DATAGRAM];
    loop {
        tokio::select! {
            // Refused ones are lost, as datagrams are.
            Some(datagram) = datagrams.recv() => drop(guest.send(&datagram).await),
            received = guest.recv(&mut buffer) => if let Ok(length) = received {
                drop(socket.send_to(&buffer[..length], from).await);
            },
            () = tokio::time::sleep(UDP_SILENCE) => return from,
            else => return from,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn any() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[tokio::test]
    async fn a_connection_is_passed_on_from_the_guests_own_address() {
        let guest = TcpListener::bind("127.99.3.4:0").await.unwrap();
        let to = guest.local_addr().unwrap();
        let forwarder = Forwarder::open(&[Forward { transport: Transport::Tcp, listen: any(), to }]).await.unwrap();
        let mut client = TcpStream::connect(forwarder.listening()[0]).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let (mut server, from) = guest.accept().await.unwrap();
        assert_eq!(from.ip(), to.ip());
        let mut heard = [0; 4];
        server.read_exact(&mut heard).await.unwrap();
        server.write_all(b"pong").await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"pong");
    }

    #[tokio::test]
    async fn datagrams_of_two_senders_are_answered_each_to_its_own() {
        let guest = UdpSocket::bind("127.99.3.5:0").await.unwrap();
        let to = guest.local_addr().unwrap();
        let forwarder = Forwarder::open(&[Forward { transport: Transport::Udp, listen: any(), to }]).await.unwrap();
        let mut buffer = [0; 64];
        for word in [&b"one"[..], b"two", b""] {
            let client = UdpSocket::bind(any()).await.unwrap();
            client.send_to(word, forwarder.listening()[0]).await.unwrap();
            let (length, from) = guest.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..length], from.ip()), (word, to.ip()));
            guest.send_to(word, from).await.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], word);
        }
    }

    #[tokio::test]
    async fn a_port_that_is_passed_on_everywhere_is_still_the_guests_own() {
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        for transport in [Transport::Tcp, Transport::Udp] {
            let to = "127.99.3.6:0".parse().unwrap();
            let forwarder = Forwarder::open(&[Forward { transport, listen: everywhere, to }]).await.unwrap();
            let at = forwarder.listening()[0];
            assert!(at.ip().is_unspecified() && at.port() != 0);
            Socket::bind(transport, SocketAddr::new(to.ip(), at.port())).await.unwrap();
            // At the machine's own address it is taken.
            let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at.port());
            assert!(Socket::bind(transport, own).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_and_no_other_stays_open() {
        let taken = TcpListener::bind(any()).await.unwrap().local_addr().unwrap();
        let held = TcpListener::bind(taken).await.unwrap();
        let forward = |listen| Forward { transport: Transport::Tcp, listen, to: taken };
        let error = Forwarder::open(&[forward(any()), forward(taken)]).await.unwrap_err();
        assert_eq!(error.listen, taken);
        drop(held);
    }
}
