//! A guest in a test: described, run, looked at.

use std::fs::File;
use std::io::{PipeReader, Read, pipe};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use samara_runtime::{Exit, Output, Program, Stdin, Stop, StopHandle, World};

use crate::wasm;

/// Nothing here takes longer on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Guest {
    program: Program,
    pub(crate) world: World,
    root: Option<tempfile::TempDir>,
    stdout: PipeReader,
    stderr: PipeReader,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The two ways a program comes.
pub(crate) const PROBES: [fn() -> Vec<u8>; 2] = [|| wasm::module("probe"), || wasm::component("probe")];

impl Guest {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let program = wasm::host().load(wasm::compiled(bytes).unwrap()).unwrap();
        let root = tempfile::tempdir().unwrap();
        let ((stdout, out), (stderr, err)) = (pipe().unwrap(), pipe().unwrap());
        let world = World {
            root: root.path().to_owned(),
            stdout: Output::raw(out),
            stderr: Output::raw(err),
            ..World::default()
        };
        Self { program, world, root: Some(root), stdout, stderr }
    }

    /// The probe as a module and as a component, each with these arguments.
    pub(crate) fn probes(args: &[&str]) -> [Self; 2] {
        PROBES.map(|bytes| Self::new(&bytes()).args(args))
    }

    /// The probe as a component.
    pub(crate) fn component(args: &[&str]) -> Self {
        Self::new(&wasm::component("probe")).args(args)
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.world.args = ["probe"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.world.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn memory_limit(mut self, bytes: u64) -> Self {
        self.world.memory_limit = Some(bytes);
        self
    }

    pub(crate) fn stdin(mut self, file: impl Into<std::os::fd::OwnedFd>) -> Self {
        self.world.stdin = Stdin::Fd(file.into());
        self
    }

    /// Uses a directory that outlives the guest as its root.
    pub(crate) fn root(mut self, root: &Path) -> Self {
        self.world.root = root.to_owned();
        self
    }

    /// Its root directory, to put files in.
    pub(crate) fn root_path(&self) -> &Path {
        &self.world.root
    }

    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }

    pub(crate) fn start(self) -> Running {
        let Self { program, world, root, stdout, stderr } = self;
        let (handle, stop) = Stop::new();
        let (sender, exit) = mpsc::channel();
        thread::spawn(move || {
            let exit = program.run(wasm::host(), world, stop);
            // The test may have given up.
            let _ = sender.send(exit);
        });
        Running { handle, exit, stdout: Reader::new(stdout), stderr: Reader::new(stderr), _root: root }
    }
}

pub(crate) struct Running {
    pub(crate) handle: StopHandle,
    exit: mpsc::Receiver<Exit>,
    pub(crate) stdout: Reader,
    pub(crate) stderr: Reader,
    _root: Option<tempfile::TempDir>,
}

impl Running {
    pub(crate) fn wait(self) -> Ended {
        let exit = self.exit.recv_timeout(PATIENCE).expect("the guest ends");
        Ended { exit, stdout: self.stdout.rest(), stderr: self.stderr.rest() }
    }

    /// Waits for the end alone: threads of a guest that computes for ever hold its output open.
    pub(crate) fn exit(self) -> Exit {
        self.exit.recv_timeout(PATIENCE).expect("the guest ends")
    }

    /// Ended or not.
    pub(crate) fn has_ended(&self) -> Option<Exit> {
        self.exit.try_recv().ok()
    }
}

/// Collects an output beside the test.
pub(crate) struct Reader(mpsc::Receiver<Vec<u8>>, std::cell::RefCell<Vec<u8>>);

impl Reader {
    fn new(mut pipe: PipeReader) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self(receiver, Default::default())
    }

    /// Waits until the output contains this, and returns all of it.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let so_far = String::from_utf8_lossy(&self.1.borrow()).into_owned();
            if so_far.contains(text) {
                return so_far;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(bytes) => self.1.borrow_mut().extend(bytes),
                Err(error) => panic!("waiting for {text:?}: {error}; so far: {so_far:?}"),
            }
        }
    }

    fn rest(self) -> String {
        let mut bytes = self.1.into_inner();
        // Until the guest's side is closed.
        while let Ok(more) = self.0.recv_timeout(PATIENCE) {
            bytes.extend(more);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!((self.exit.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.exit.code, 1, "{self:?}");
        self.stderr
    }
}

/// A file with this text.
pub(crate) fn text(text: &str) -> File {
    let mut file = wasm::file(text.as_bytes());
    std::io::Seek::rewind(&mut file).unwrap();
    file
}
