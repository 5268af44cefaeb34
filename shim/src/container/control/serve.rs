//! The container's end of the control socket: a thread that is there even while the guest spins.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use samara_runtime::{StopAction, StopHandle};

use super::spare::Spare;
use super::{Command, Event, Hello, MOST_LISTENING, Message, Request, State, Stream, VERSION, frame};
use crate::container::kernel;
use crate::zygote::wire;

/// What the thread needs is little; the kernel gives pages as they are touched.
const STACK: usize = 256 << 10;

/// How long a front waits that cannot be let in, until the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// The guest's streams. Files of outputs are shared with it: their numbers are theirs until the process ends.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// There is something to read.
    pub(crate) stdin: bool,
    /// `None` without a file.
    pub(crate) stdout: Option<Arc<File>>,
    pub(crate) stderr: Option<Arc<File>>,
}

/// Shared by the control thread, the main thread and the guest's sockets.
#[derive(Debug)]
pub(crate) struct Life {
    inner: Mutex<Inner>,
    begun: Condvar,
    stop: StopHandle,
    streams: Streams,
    /// The front's end of the terminal, kept for the next front.
    master: Option<OwnedFd>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    listening: Vec<SocketAddr>,
    /// The connected front, to write to.
    front: Option<Arc<UnixStream>>,
    /// The guest is over: nobody writes to its streams any more.
    over: bool,
}

impl Life {
    pub(crate) fn new(stop: StopHandle, streams: Streams, master: Option<OwnedFd>, warnings: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner { state: State::Ready, listening: Vec::new(), front: None, over: false }),
            begun: Condvar::new(),
            stop,
            streams,
            master,
            warnings,
        })
    }

    /// Starts the thread.
    pub(crate) fn serve(self: &Arc<Self>, listener: OwnedFd) -> io::Result<()> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let life = Arc::clone(self);
        std::thread::Builder::new().name("control".into()).stack_size(STACK).spawn(move || life.run(&listener))?;
        Ok(())
    }

    /// Waits for the front's `start`.
    pub(crate) fn wait_for_start(&self) {
        let inner = self.lock();
        let _running =
            self.begun.wait_while(inner, |inner| inner.state == State::Ready).unwrap_or_else(PoisonError::into_inner);
    }

    /// For [`samara_runtime::OnListen`].
    pub(crate) fn listening(&self, address: SocketAddr) {
        let mut inner = self.lock();
        if inner.listening.len() < MOST_LISTENING {
            inner.listening.push(address);
            inner.tell(&Message::Event(Event::Listening { address }));
        }
    }

    /// The guest is over and the process ends next.
    pub(crate) fn ended(&self, exit_code: u8, oom: bool) {
        let mut inner = self.lock();
        inner.over = true;
        inner.tell(&Message::Event(Event::Ended { exit_code, oom }));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one front after the other, the newest one only.
    fn run(&self, listener: &UnixListener) {
        let mut front: Option<Connection> = None;
        let mut spare = Spare::default();
        loop {
            spare.fill(listener);
            match wait(listener, front.as_ref()) {
                Ok(Woken::Listener) => match self.accept(listener, &mut spare) {
                    Ok(connection) => front = Some(connection),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Its descriptor is the next one's.
                    Err(_) if front.take().is_some() => self.lock().front = None,
                    Err(_) => std::thread::sleep(PAUSE),
                },
                Ok(Woken::Front) => {
                    if let Some(connection) = &mut front
                        && let Err(error) = self.hear(connection, &mut spare)
                    {
                        self.refuse(&error);
                        self.lock().front = None;
                        front = None;
                    }
                }
                // Nothing is left to serve with.
                Err(_) => return,
            }
        }
    }

    fn accept(&self, listener: &UnixListener, spare: &mut Spare) -> io::Result<Connection> {
        let accepted = match listener.accept() {
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                spare.lend();
                listener.accept()
            }
            accepted => accepted,
        };
        let (stream, _) = accepted?;
        stream.set_nonblocking(true)?;
        let stream = Arc::new(stream);
        let mut inner = self.lock();
        inner.front = Some(Arc::clone(&stream));
        let hello = Hello {
            version: VERSION,
            state: inner.state,
            listening: inner.listening.clone(),
            warnings: self.warnings.clone(),
        };
        let master: Vec<_> = self.master.iter().map(OwnedFd::as_fd).collect();
        inner.tell_with(&hello, &master);
        Ok(Connection { stream, received: Vec::new(), files: Vec::new() })
    }

    fn hear(&self, connection: &mut Connection, spare: &mut Spare) -> io::Result<()> {
        connection.receive(spare)?;
        while let Some(Request { id, command }) = frame::decode(&mut connection.received)? {
            let outcome = self.obey(command, &mut connection.files);
            let mut inner = self.lock();
            let message = match outcome {
                Ok(()) => Message::Done { id, state: inner.state },
                Err(reason) => Message::Refused { id, reason },
            };
            inner.tell(&message);
        }
        Ok(())
    }

    /// Tells why a connection ends; the end of it needs no telling.
    fn refuse(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            self.lock().tell(&Message::Refused { id: 0, reason: error.to_string() });
        }
    }

    fn obey(&self, command: Command, files: &mut Vec<OwnedFd>) -> Result<(), String> {
        match command {
            Command::Start => {
                let mut inner = self.lock();
                if inner.state == State::Ready {
                    inner.state = State::Running;
                    self.begun.notify_all();
                }
                Ok(())
            }
            Command::Stop { signal, grace_millis } => self.stop(signal, Duration::from_millis(grace_millis)),
            Command::Output { stream } => {
                let file = files.pop().ok_or("no file came with the command")?;
                match stream {
                    Stream::Stdout => self.replace("stdout", self.streams.stdout.as_deref(), &file),
                    Stream::Stderr => self.replace("stderr", self.streams.stderr.as_deref(), &file),
                    Stream::Both => {
                        self.replace("stdout", self.streams.stdout.as_deref(), &file)?;
                        self.replace("stderr", self.streams.stderr.as_deref(), &file)
                    }
                }
            }
            Command::Memory { limit } => {
                self.stop.set_memory_limit(limit);
                Ok(())
            }
            Command::CloseStdin => {
                if self.streams.stdin {
                    // What was written is still read; then comes the end.
                    self.stop.close_stdin();
                }
                Ok(())
            }
        }
    }

    fn stop(&self, signal: u8, grace: Duration) -> Result<(), String> {
        if !(1..=64).contains(&signal) {
            return Err(format!("{signal} is no signal"));
        }
        let mut inner = self.lock();
        let action = match inner.state {
            State::Ready => StopAction::EndNow,
            State::Running | State::Draining => self.stop.stop(grace),
        };
        match action {
            StopAction::EndNow => kernel::exit(128 + signal),
            StopAction::Draining => inner.state = State::Draining,
        }
        Ok(())
    }

    fn replace(&self, name: &str, stream: Option<&File>, file: &OwnedFd) -> Result<(), String> {
        let stream = stream.ok_or_else(|| format!("{name} has no file"))?;
        let inner = self.lock();
        if inner.over {
            return Err("the guest has ended".into());
        }
        kernel::replace(file.as_fd(), stream.as_fd()).map_err(|error| error.to_string())
    }
}

impl Inner {
    /// A front that does not read is let go: it finds everything in the next `Hello`.
    fn tell(&mut self, message: &impl serde::Serialize) {
        self.tell_with(message, &[]);
    }

    fn tell_with(&mut self, message: &impl serde::Serialize, files: &[BorrowedFd<'_>]) {
        let Some(front) = &self.front else {
            return;
        };
        let sent = frame::encode(message);
        let sent = sent.and_then(|bytes| Ok(wire::send(front.as_fd(), &bytes, files)? == bytes.len()));
        if !matches!(sent, Ok(true)) {
            let _ = front.shutdown(std::net::Shutdown::Both);
            self.front = None;
        }
    }
}

struct Connection {
    stream: Arc<UnixStream>,
    received: Vec<u8>,
    /// Came beside what was received, newest first.
    files: Vec<OwnedFd>,
}

impl Connection {
    fn receive(&mut self, spare: &mut Spare) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let mut files = Vec::new();
        if wire::brings_files(self.stream.as_fd(), &mut bytes)? {
            spare.lend();
        }
        match wire::receive(self.stream.as_fd(), &mut bytes, &mut files) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.received.extend_from_slice(&bytes[..length]);
                for file in files {
                    self.files.insert(0, file);
                }
                if self.files.len() > 16 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "more files than commands"));
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

enum Woken {
    Listener,
    Front,
}

fn wait(listener: &UnixListener, front: Option<&Connection>) -> io::Result<Woken> {
    loop {
        let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
        if let Some(front) = front {
            fds.push(PollFd::new(&*front.stream, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            // What a front still sent before it was replaced is heard first.
            Ok(_) if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) => {
                return Ok(Woken::Front);
            }
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => return Ok(Woken::Listener),
            Ok(_) => return Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::control::{Connected, connect, listen};
    use samara_runtime::Stop;
    use std::io::Read as _;

    struct Served {
        life: Arc<Life>,
        bundle: tempfile::TempDir,
        stdout: Arc<File>,
    }

    fn served() -> Served {
        let bundle = tempfile::tempdir().unwrap();
        let stdout = Arc::new(tempfile::tempfile().unwrap());
        let streams = Streams { stdout: Some(Arc::clone(&stdout)), ..Streams::default() };
        let life = Life::new(Stop::new().0, streams, None, vec!["a warning".into()]);
        life.serve(listen(bundle.path()).unwrap()).unwrap();
        Served { life, bundle, stdout }
    }

    #[tokio::test]
    async fn a_guest_begins_when_the_front_says_so() {
        let served = served();
        let Connected { control, hello, .. } = connect(served.bundle.path()).await.unwrap();
        assert_eq!(hello.state, State::Ready);
        assert_eq!(hello.warnings, ["a warning"]);
        assert_eq!(control.start().await.unwrap(), State::Running);
        served.life.wait_for_start();
        assert_eq!(control.start().await.unwrap(), State::Running, "twice is once");
    }

    #[tokio::test]
    async fn the_next_front_replaces_the_first_and_learns_what_it_missed() {
        let served = served();
        let Connected { control: first, events: mut first_events, .. } = connect(served.bundle.path()).await.unwrap();
        first.start().await.unwrap();
        let address = "10.0.0.1:8080".parse().unwrap();
        served.life.listening(address);
        assert_eq!(first_events.recv().await, Some(Event::Listening { address }));
        let second = connect(served.bundle.path()).await.unwrap();
        let (hello, mut second_events) = (second.hello, second.events);
        assert_eq!((hello.state, hello.listening), (State::Running, vec![address]));
        assert_eq!(first_events.recv().await, None);
        served.life.ended(3, false);
        let ended = Event::Ended { exit_code: 3, oom: false };
        assert_eq!(second_events.recv().await, Some(ended));
    }

    #[tokio::test]
    async fn a_stream_is_exchanged_under_its_number() {
        let served = served();
        let control = connect(served.bundle.path()).await.unwrap().control;
        let mut new = tempfile::tempfile().unwrap();
        control.output(Stream::Stdout, new.as_fd()).await.unwrap();
        std::io::Write::write_all(&mut &*served.stdout, b"rotated").unwrap();
        let mut text = String::new();
        std::io::Seek::rewind(&mut new).unwrap();
        new.read_to_string(&mut text).unwrap();
        assert_eq!(text, "rotated");
        let refused = control.output(Stream::Stderr, new.as_fd()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the container refused: stderr has no file");
        served.life.ended(0, false);
        assert!(control.output(Stream::Stdout, new.as_fd()).await.is_err());
    }

    #[tokio::test]
    async fn no_signal_and_nonsense_are_refused_and_the_next_front_is_served() {
        let served = served();
        let control = connect(served.bundle.path()).await.unwrap().control;
        assert!(control.stop(0, Duration::ZERO).await.is_err());
        assert!(control.stop(65, Duration::ZERO).await.is_err());
        for nonsense in [&b"\xff\xff\xff\xff"[..], b"\x02\0\0\0{}", b"\x01\0\0\0x"] {
            let path = served.bundle.path().join("control.sock");
            let mut stream = UnixStream::connect(path).unwrap();
            std::io::Write::write_all(&mut stream, nonsense).unwrap();
            let mut said = Vec::new();
            // The connection ends, with a reason before it.
            stream.read_to_end(&mut said).unwrap();
            assert!(String::from_utf8_lossy(&said).contains("refused"));
        }
        assert_eq!(connect(served.bundle.path()).await.unwrap().hello.state, State::Ready);
    }
}
