//! One round against one server.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use crate::servers::Server;
use crate::{load, wasm};

/// What one round came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Of the server process, in microseconds.
    pub(crate) cpu_per_request: f64,
    pub(crate) requests_per_second: f64,
}

pub(crate) fn round(server: &Server, requests: usize, connections: usize) -> Round {
    let before = cpu(server.pid());
    let output = Command::new(wasm::exe())
        .arg0(load::NAME)
        .args([server.address.to_string(), requests.to_string(), connections.to_string()])
        .output()
        .expect("the load starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seconds: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds");
    let used = cpu(server.pid()) - before;
    Round {
        cpu_per_request: used.as_secs_f64() * 1e6 / requests as f64,
        requests_per_second: requests as f64 / seconds,
    }
}

/// CPU time of all threads of a process, to the nanosecond.
fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
