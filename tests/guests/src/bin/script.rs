//! Runs a script given as its argument: a guest of a usual size, most of whose code is never run.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(script) = arguments.first() else {
        eprintln!("usage: script SCRIPT [--hold]");
        return ExitCode::from(2);
    };
    if let Err(error) = rhai::Engine::new().run(script) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    while arguments.iter().any(|argument| argument == "--hold") {
        thread::sleep(Duration::from_secs(3600));
    }
    ExitCode::SUCCESS
}
