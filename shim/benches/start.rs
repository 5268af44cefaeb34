//! How long a container takes from a front's request to its readiness and to its end, all walls up.
//!
//! `cargo bench -p samara-shim --bench start [-- COUNT]`; with `cargo test` instead of `cargo bench` it is the
//! development build that is measured.

use std::process::ExitCode;
use std::time::{Duration, Instant};

#[path = "../tests/zygote/container.rs"]
#[expect(dead_code, reason = "made for the tests")]
mod container;
#[path = "../tests/zygote/guests.rs"]
#[expect(dead_code, reason = "made for the tests")]
mod guests;
#[path = "../tests/zygote/zygote.rs"]
#[expect(dead_code, reason = "made for the tests")]
mod zygote;

mod probe {
    /// Nobody starts one here.
    pub(crate) const NAME: &str = "";
}

use container::Container;
use zygote::Zygote;

fn main() -> ExitCode {
    match std::env::args().next().unwrap_or_default().as_str() {
        samara_runtime::code::worker::NAME => return samara_runtime::code::worker::main(),
        samara_shim::zygote::protocol::NAME => return samara_shim::zygote::main(),
        _ => {}
    }
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200);
    println!("{count} containers, one after the other; microseconds");
    println!("{:<28} {:>8} {:>8} {:>8}", "", "median", "p90", "max");
    for (name, guest) in [("p1 hello", guests::HELLO), ("p2 hello", guests::HELLO_COMPONENT)] {
        let (mut ready, mut ended) = (Vec::new(), Vec::new());
        let mut zygote = Zygote::start();
        for _ in 0..count {
            // What the front prepares is the front's time.
            let container = Container::new(guest);
            let began = Instant::now();
            let running = zygote.fork(container);
            ready.push(began.elapsed());
            zygote.exited(&running);
            ended.push(began.elapsed());
        }
        line(&format!("{name}: ready"), ready);
        line(&format!("{name}: ended and told"), ended);
        let [own_user, own_system, user, system] = cpu(zygote.pid()).map(|ticks| ticks * 10_000 / count);
        println!(
            "{:<28} zygote {own_user} user + {own_system} system, child {user} user + {system} system",
            "  cpu of one"
        );
    }
    ExitCode::SUCCESS
}

/// Clock ticks (of 10 ms) of a process and of its children that have ended, in user and system mode.
fn cpu(pid: i32) -> [u64; 4] {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let fields: Vec<u64> = after_name.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    [fields[11], fields[12], fields[13], fields[14]]
}

fn line(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    println!("{name:<28} {:>8} {:>8} {:>8}", at(0.5), at(0.9), at(1.0));
}
