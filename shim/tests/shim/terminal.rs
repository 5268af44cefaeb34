//! A container with a terminal.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use samara_shim_client::Standard;

use crate::guests;
use crate::node::{Node, until};

fn fifo(path: PathBuf) -> PathBuf {
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    path
}

#[tokio::test]
async fn what_is_typed_comes_back_and_the_size_can_change() {
    let node = Node::start().await;
    let container = node.container(&guests::cat());
    let (stdin, stdout) = (fifo(container.dir.join("in")), fifo(container.dir.join("out")));
    let mut request = container.request();
    request.standard = Standard {
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        stderr: String::new(),
        terminal: true,
    };
    node.shim.create(&request).await.expect("created");
    node.shim.start(&container.id, "").await.expect("started");
    node.shim.resize_pty(&container.id, "", 132, 43).await.expect("resized");
    let mut input = OpenOptions::new().write(true).read(true).open(&stdin).expect("input");
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut output = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(&stdout).expect("output");
    input.write_all(b"typed\n").expect("typed");
    let mut seen = String::new();
    // Once by the terminal's echo, once by the guest.
    until("twice", || {
        let mut buffer = [0; 256];
        if let Ok(length) = output.read(&mut buffer) {
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        (seen.matches("typed\r\n").count() == 2).then_some(())
    })
    .await;
    node.shim.kill(&container.id, "", 15, false).await.expect("asked to stop");
    assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 143);
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
