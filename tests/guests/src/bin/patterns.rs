//! Prints what a regular expression finds in a JSON document: a guest of a usual size, much of which is tables.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is found, and where.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    path: String,
    text: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pattern, document, ..] = arguments.as_slice() else {
        eprintln!("usage: patterns PATTERN JSON [--hold]");
        return ExitCode::from(2);
    };
    let (pattern, document) = match (Regex::new(pattern), serde_json::from_str::<Value>(document)) {
        (Ok(pattern), Ok(document)) => (pattern, document),
        (Err(error), _) => return fail(&error),
        (_, Err(error)) => return fail(&error),
    };
    let mut found = Vec::new();
    find(&pattern, &document, "$", &mut found);
    println!("{}", json!(found));
    while arguments.iter().any(|argument| argument == "--hold") {
        thread::sleep(Duration::from_secs(3600));
    }
    ExitCode::SUCCESS
}

fn find(pattern: &Regex, value: &Value, path: &str, found: &mut Vec<Found>) {
    match value {
        Value::String(text) => found.extend(
            pattern.find_iter(text).map(|part| Found { path: path.to_owned(), text: part.as_str().to_owned() }),
        ),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                find(pattern, value, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                find(pattern, value, &format!("{path}.{name}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}
