//! Lists the pods of its namespace with its service account, through `wasi:http`, and prints one line.
//! With `--every SECONDS` it goes on doing so.
//!
//! TLS is the host's: it verifies the API server against the bundle named by `SSL_CERT_FILE`, which the manifest sets to the
//! service account's `ca.crt`. The token is read anew each time, because the node refreshes it.

mod account;
mod request;

use std::time::Duration;
use std::{env, process, thread};

fn main() {
    let every = match period(env::args().skip(1)) {
        Ok(every) => every,
        Err(message) => {
            eprintln!("api-client: {message}");
            process::exit(2);
        }
    };
    loop {
        let outcome = list();
        match &outcome {
            Ok(line) => println!("{line}"),
            Err(message) => eprintln!("api-client: {message}"),
        }
        match every {
            Some(every) => thread::sleep(every),
            None => process::exit(i32::from(outcome.is_err())),
        }
    }
}

fn period(mut arguments: impl Iterator<Item = String>) -> Result<Option<Duration>, String> {
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(None),
        (Some("--every"), Some(seconds)) => match seconds.parse() {
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
            Err(error) => Err(format!("--every {seconds}: {error}")),
        },
        (Some(other), _) => Err(format!(
            "unknown argument {other}; there is --every SECONDS"
        )),
    }
}

fn list() -> Result<String, String> {
    let account = account::read()?;
    let path = format!("/api/v1/namespaces/{}/pods", account.namespace);
    let answer = request::get(&account.server, &path, &account.token)?;
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        let text = text.trim();
        return Err(format!(
            "GET {path} from {}: {}: {text}",
            account.server, answer.status
        ));
    }
    // Each item has exactly one `status.phase`; enough to count with, and a JSON parser would be most of this guest.
    let pods = text.matches("\"phase\":").count();
    Ok(format!(
        "api-client: {pods} pods in namespace {}",
        account.namespace
    ))
}
