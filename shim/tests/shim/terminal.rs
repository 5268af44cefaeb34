//! A container with a terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use samara_shim_client::Standard;
use samara_shim_client::output::{LogProgram, OutputUri, ReadyBy};

use crate::bundle::Container;
use crate::guests;
use crate::node::{EXE, Node, kill, lives, until};

fn fifo(path: PathBuf) -> PathBuf {
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    path
}

#[tokio::test]
async fn what_is_typed_comes_back_and_the_size_can_change() {
    let node = Node::start().await;
    let container = node.container(&guests::cat());
    let mut typed = Typed::start(&node, &container).await;
    for (width, height) in [(132, 43), (80, 24), (u16::MAX, 1)] {
        node.shim.resize_pty(&container.id, "", width.into(), height.into()).await.expect("resized");
        assert_eq!(typed.size(), (width, height));
    }
    typed.comes_back("typed").await;
    node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
}

/// A terminal in which `cat` runs: what is typed comes back twice, by the echo and by the guest.
struct Typed {
    pid: u32,
    input: File,
    output: File,
    seen: String,
}

impl Typed {
    async fn start(node: &Node, container: &Container) -> Self {
        let (stdin, stdout) = (fifo(container.dir.join("in")), fifo(container.dir.join("out")));
        let mut request = container.request();
        request.standard = Standard {
            stdin: stdin.display().to_string(),
            stdout: stdout.display().to_string(),
            stderr: String::new(),
            terminal: true,
        };
        node.shim.create(&request).await.expect("created");
        let pid = node.shim.start(&container.id, "").await.expect("started");
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options
        };
        let output = open().custom_flags(nonblocking).open(&stdout).expect("output");
        Self { pid, input: open().open(&stdin).expect("input"), output, seen: String::new() }
    }

    /// Columns and rows of the terminal that the guest has.
    fn size(&self) -> (u16, u16) {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("lives");
        let is_terminal = |path: &PathBuf| {
            // The other end, opened by this name, would be a new terminal.
            fs::read_link(path).is_ok_and(|link| link.starts_with("/dev/pts") && !link.ends_with("ptmx"))
        };
        let path = files.map(|file| file.expect("a file").path()).find(is_terminal).expect("the guest has one");
        let not_ours = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        let terminal = OpenOptions::new().read(true).custom_flags(not_ours).open(path).expect("its terminal");
        let size = rustix::termios::tcgetwinsize(&terminal).expect("a terminal");
        (size.ws_col, size.ws_row)
    }

    async fn comes_back(&mut self, text: &str) {
        writeln!(self.input, "{text}").expect("typed");
        let line = format!("{text}\r\n");
        until("twice", || {
            let mut buffer = [0; 256];
            if let Ok(length) = self.output.read(&mut buffer) {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            (self.seen.matches(&line).count() == 2).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_terminal_outlives_its_front() {
    let mut node = Node::start().await;
    let container = node.container(&guests::cat());
    let mut typed = Typed::start(&node, &container).await;
    typed.comes_back("before").await;
    kill(node.front_pid());
    node.restart().await;
    typed.comes_back("after a death").await;
    node.shim.resize_pty(&container.id, "", 132, 43).await.expect("resized");
    assert_eq!(typed.size(), (132, 43));
    node.shim = node.shim.upgrade(Path::new(EXE)).await.expect("upgraded");
    typed.comes_back("after an upgrade").await;
    // And for as long as nobody has it, the guest is not hung up.
    let front = node.front_pid();
    kill(front);
    // Or it would take what is typed with it.
    until("dead", || (!lives(front)).then_some(())).await;
    writeln!(typed.input, "between").expect("typed");
    node.restart().await;
    typed.comes_back("at last").await;
    assert_eq!(typed.seen.matches("between\r\n").count(), 2, "{}", typed.seen);
    node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
}

#[tokio::test]
async fn a_paused_terminal_is_taken_over_when_it_goes_on() {
    let mut node = Node::start().await;
    let container = node.container(&guests::cat());
    let mut typed = Typed::start(&node, &container).await;
    typed.comes_back("before").await;
    node.shim.pause(&container.id).await.expect("paused");
    kill(node.front_pid());
    node.restart().await;
    node.shim.resume(&container.id).await.expect("resumed");
    typed.comes_back("after").await;
}

#[tokio::test]
async fn a_logging_program_hears_both_outputs_and_what_a_terminal_shows() {
    let node = Node::start().await;
    for (terminal, stream, expected) in [(false, 1, "one\n"), (false, 2, "one\n"), (true, 1, "one\r\n")] {
        let container = node.container(&guests::say(stream, "one\n", 0));
        let log = container.dir.join("said");
        let script = r#"exec 5>&-; { cat <&3; cat <&4; } > "$1.new"; mv "$1.new" "$1""#;
        let args = [("-c".into(), script.into()), ("to".into(), log.display().to_string())];
        let program = LogProgram { path: "/bin/sh".into(), args: args.into(), ready: ReadyBy::Closing };
        let uri = OutputUri::Binary(program).to_string();
        let mut request = container.request();
        (request.standard.stdout, request.standard.stderr) = (uri.clone(), uri);
        request.standard.terminal = terminal;
        node.shim.create(&request).await.expect("created");
        node.shim.start(&container.id, "").await.expect("started");
        node.shim.wait(&container.id, "").await.expect("ended");
        until("written", || log.exists().then_some(())).await;
        assert_eq!(fs::read_to_string(&log).expect("log"), expected, "terminal: {terminal}, stream {stream}");
    }
}

#[tokio::test]
async fn a_terminals_output_can_be_a_cri_log() {
    let node = Node::start().await;
    let container = node.container(&guests::say(1, "one\n", 0));
    let mut request = container.request();
    (request.standard.terminal, request.standard.stderr) = (true, String::new());
    node.shim.create(&request).await.expect("created");
    node.shim.start(&container.id, "").await.expect("started");
    node.shim.wait(&container.id, "").await.expect("ended");
    until("logged", || (container.records() == ["stdout F one"]).then_some(())).await;
    assert!(fs::metadata(&container.log.path).is_ok());
}
