//! What one container costs, by a real front and all walls up: its own pid, mount, ipc and uts namespace, a joined network
//! namespace, a cgroup with limits, a root, a user without capabilities, Landlock, seccomp.
//!
//! `cargo bench -p samara-shim --bench start [-- COUNT]`; with `cargo test` instead of `cargo bench` it is the
//! development build that is measured, or the shim (or `samara`) that `SAMARA_SHIM_BIN` names. Needs root.

use std::process::ExitCode;
use std::time::{Duration, Instant};

#[path = "../tests/shim/bundle.rs"]
#[expect(dead_code, reason = "made for the tests")]
mod bundle;
#[path = "../tests/shim/guests.rs"]
#[expect(dead_code, reason = "made for the tests")]
mod guests;
#[path = "../tests/shim/node.rs"]
#[expect(dead_code, reason = "made for the tests")]
mod node;

use node::Node;
use serde_json::json;

/// Ends at once, with 0.
const HELLO_COMPONENT: &str = r#"(component
  (core module $m (func (export "run") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $face (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $face)))"#;

/// What is waited for after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Ended,
    Listens,
}

fn main() -> ExitCode {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200);
    println!("{count} containers of each kind, one after the other; microseconds");
    println!("{:<28} {:>8} {:>8} {:>8}", "wall", "median", "p90", "max");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        measure("p1 hello", &guests::say(1, "hello\n", 0), Until::Ended, count).await;
        measure("p2 hello", &guests::wasm(HELLO_COMPONENT), Until::Ended, count).await;
        measure("http", &guests::server(), Until::Listens, count).await;
    });
    ExitCode::SUCCESS
}

async fn measure(name: &str, wasm: &[u8], until: Until, count: u64) {
    let node = Node::start().await;
    // The first compiles.
    one(&node, wasm, until).await;
    let (front, zygote) = (node.front_pid(), node.zygote_pid());
    let before = (cpu(front), cpu(zygote));
    let (mut started, mut reached) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (start, end) = one(&node, wasm, until).await;
        started.push(start);
        reached.push(end);
    }
    let after = (cpu(front), cpu(zygote));
    line(&format!("{name}: created and started"), started);
    line(&format!("{name}: {}", if until == Until::Ended { "ended and told" } else { "listens" }), reached);
    // Reaped ones are their parent's children; the front's own are counted with those of its zygote.
    let each = |before: [u64; 4], after: [u64; 4], at: usize| (after[at] - before[at]) * 10_000 / count;
    let of = |who: &str, before, after, at| {
        println!(
            "  cpu of one, {who:<15} {:>8} user {:>6} system",
            each(before, after, at),
            each(before, after, at + 1)
        );
    };
    of("front", before.0, after.0, 0);
    of("zygote", before.1, after.1, 0);
    of("container", before.1, after.1, 2);
}

/// From the request to the answer of its start, and to what is waited for.
async fn one(node: &Node, wasm: &[u8], until: Until) -> (Duration, Duration) {
    let mut container = node.container(wasm);
    container.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    container.config["linux"]["resources"] =
        json!({"memory": {"limit": 64 << 20}, "cpu": {"shares": 102}, "pids": {"limit": 64}});
    let network = format!("/proc/{}/ns/net", std::process::id());
    container.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("list")
        .push(json!({"type": "network", "path": network}));
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    container.config["process"]["env"] = json!([format!("PORT={port}")]);
    let request = container.request();
    let began = Instant::now();
    node.shim.create_and_start(&request).await.expect("started");
    let started = began.elapsed();
    let reached = match until {
        Until::Ended => {
            assert_eq!(node.shim.wait(&container.id, "").await.expect("ended").code, 0);
            began.elapsed()
        }
        Until::Listens => {
            node.shim.listening(&container.id).await.expect("listens");
            let listens = began.elapsed();
            node.shim.kill(&container.id, "", 9, false).await.expect("killed");
            node.shim.wait(&container.id, "").await.expect("ended");
            listens
        }
    };
    node.shim.delete(&container.id, "").await.expect("deleted");
    (started, reached)
}

/// Clock ticks (of 10 ms) of a process and of its children that have ended, in user and system mode.
fn cpu(pid: i32) -> [u64; 4] {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("lives");
    let (_, after_name) = stat.rsplit_once(") ").expect("stat");
    let fields: Vec<u64> = after_name.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    [fields[11], fields[12], fields[13], fields[14]]
}

fn line(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    println!("{name:<28} {:>8} {:>8} {:>8}", at(0.5), at(0.9), at(1.0));
}
