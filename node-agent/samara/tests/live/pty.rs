//! A terminal with somebody at it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// Columns and rows.
pub(crate) type Size = (u16, u16);

/// One program has it: its input, its output and its Ctrl-C.
pub(crate) struct Pty {
    master: File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

/// Anything that should be seen is seen by then.
const SOON: Duration = Duration::from_secs(20);

impl Pty {
    /// Starts the command at a terminal of 100 by 40.
    pub(crate) fn run(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = open(Path::new(name.to_str().unwrap()));
        let master = File::from(master);
        resize(&master, (100, 40));
        // A session of its own, whose terminal this is: keys become signals.
        let mut own = Command::new("setsid");
        own.arg("--ctty").arg(command.get_program()).args(command.get_args());
        own.current_dir(command.get_current_dir().unwrap()).env_remove("NO_COLOR").env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => own.env(name, value),
                None => own.env_remove(name),
            };
        }
        let end = || slave.try_clone().unwrap();
        let child = own.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, all) = (master.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails when nobody has the other side any more.
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                all.lock().unwrap().extend(&buffer[..read]);
            }
        });
        Self { master, child, seen }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, size: Size) {
        resize(&self.master, size);
    }

    /// All that was written so far.
    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until this is to be seen.
    #[track_caller]
    pub(crate) fn until(&self, text: &str) {
        let began = Instant::now();
        while !self.seen().contains(text) {
            assert!(began.elapsed() < SOON, "{text:?} is not seen, but {:?}", self.seen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < SOON, "it does not end; seen is {:?}", self.seen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of the terminal that is this process's own.
pub(crate) fn size_at(pid: u64) -> Size {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The seventh field; the second is a name in brackets, which may hold anything.
    let device = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(4).unwrap();
    let number = rustix::fs::minor(device.parse().unwrap());
    let size = tcgetwinsize(open(Path::new(&format!("/dev/pts/{number}")))).unwrap();
    (size.ws_col, size.ws_row)
}

/// Without becoming our own terminal.
fn open(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(path).unwrap()
}

fn resize(master: &File, (ws_col, ws_row): Size) {
    tcsetwinsize(master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}
