//! A few commands in one binary, as busybox does it: chosen by the last part of `argv[0]`, else by the first argument.
//! There is no shell; what a shell would do (write a file) is `tee`.

mod files;
mod text;

use std::process::ExitCode;
use std::time::Duration;
use std::{env, io, thread};

/// What a command gives back: nothing, or the line to print after `name: `.
type Outcome = Result<(), String>;
type Command = fn(&[String]) -> Outcome;

const COMMANDS: &[(&str, Command)] = &[
    ("cat", text::cat),
    ("echo", text::echo),
    ("env", text::environment),
    ("false", |_| Err("as asked".to_owned())),
    ("ls", files::ls),
    ("mkdir", files::mkdir),
    ("pwd", files::pwd),
    ("rm", files::rm),
    ("sleep", sleep),
    ("tee", text::tee),
    ("true", |_| Ok(())),
    ("wc", text::wc),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let Some((name, command, rest)) = choose(&arguments) else {
        let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
        eprintln!("toolbox: no such command; there are {}", names.join(" "));
        return ExitCode::from(127);
    };
    match command(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn choose(arguments: &[String]) -> Option<(&'static str, Command, &[String])> {
    let find = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let name = name.strip_suffix(".wasm").unwrap_or(name);
        COMMANDS.iter().find(|(known, _)| *known == name)
    };
    let (first, rest) = arguments.split_first()?;
    if let Some((name, command)) = find(first) {
        return Some((name, *command, rest));
    }
    let (second, rest) = rest.split_first()?;
    find(second).map(|(name, command)| (*name, *command, rest))
}

/// `sleep [SECONDS | infinity]`
fn sleep(arguments: &[String]) -> Outcome {
    let wish = arguments.first().map_or("infinity", String::as_str);
    if wish == "infinity" {
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
    let seconds: f64 = wish
        .trim_end_matches('s')
        .parse()
        .map_err(|error| format!("{wish}: {error}"))?;
    let duration =
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("{wish}: {error}"))?;
    thread::sleep(duration);
    Ok(())
}

/// Puts the path before an error's text, as commands do.
fn named(path: &str) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{path}: {error}")
}
