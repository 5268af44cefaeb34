//! What a request to a `wasi:http` guest costs, beside a native hyper server that gives the same answer.
//!
//! `cargo bench -p samara-runtime --bench http [-- ROUNDS [REQUESTS [CONNECTIONS]]]`. Server and load are processes of
//! their own; each round asks every server once, so that a busy machine is busy for all of them. The figure to look at
//! is cpu per request of the server process: requests per second depend on what the load leaves of the machine.

use std::process::ExitCode;

mod load;
mod measure;
mod report;
mod servers;
#[path = "../../tests/run/wasm.rs"]
#[expect(dead_code, reason = "made for the tests")]
mod wasm;

use report::Report;
use servers::{Kind, Server};

fn main() -> ExitCode {
    match std::env::args().next().unwrap_or_default().as_str() {
        samara_runtime::code::worker::NAME => return samara_runtime::code::worker::main(),
        load::NAME => return load::main(),
        name => {
            if let Some(kind) = Kind::named(name) {
                return servers::main(kind);
            }
        }
    }
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let rounds = numbers.next().unwrap_or(9);
    let requests = numbers.next().unwrap_or(20_000);
    let connections = numbers.next().unwrap_or(32);
    wasm::build();
    println!("{rounds} rounds of {requests} requests on {connections} connections");
    let servers = Kind::ALL.map(|kind| (kind, Server::start(kind)));
    for (_, server) in &servers {
        measure::round(server, requests.min(2000), connections);
    }
    let mut report = Report::default();
    for _ in 0..rounds {
        report.add(servers.each_ref().map(|(_, server)| measure::round(server, requests, connections)));
    }
    print!("{}", report.table());
    ExitCode::SUCCESS
}
