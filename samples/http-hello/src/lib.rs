//! A `wasi:http/proxy` component.
//!
//! | path | answer |
//! |---|---|
//! | `/` | `hello from v1 on <HOSTNAME>` |
//! | `/healthz` | `ok`; 503 while the file `$UNHEALTHY_FILE` exists |
//! | `/slow?ms=N` | as `/`, after N milliseconds |
//! | `/echo` | the request's body, streamed |
//! | `/env` | the environment, sorted |
//! | `/exit?code=N` | none: the process ends |
//! | `/trap` | none: the instance traps |

mod answer;

use std::env;

use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use crate::answer::{Status, answer, echo};

const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION_MAJOR"));

#[derive(Debug)]
struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, response: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => answer(response, Status::Ok, &hello()),
            "/healthz" if unhealthy() => answer(response, Status::Unavailable, "unhealthy\n"),
            "/healthz" => answer(response, Status::Ok, "ok\n"),
            "/slow" => match number(query, "ms") {
                Some(milliseconds) => {
                    monotonic_clock::subscribe_duration(milliseconds.saturating_mul(1_000_000))
                        .block();
                    answer(response, Status::Ok, &hello());
                }
                None => answer(response, Status::BadRequest, "say how long: /slow?ms=100\n"),
            },
            "/echo" => echo(response, &request),
            "/env" => answer(response, Status::Ok, &environment()),
            "/exit" => std::process::exit(number(query, "code").unwrap_or(0) as i32),
            "/trap" => std::process::abort(),
            _ => answer(response, Status::NotFound, "no such path\n"),
        }
    }
}

fn hello() -> String {
    let host = env::var("HOSTNAME").unwrap_or_else(|_| "unknown".to_owned());
    format!("hello from {VERSION} on {host}\n")
}

fn unhealthy() -> bool {
    env::var_os("UNHEALTHY_FILE").is_some_and(|path| std::path::Path::new(&path).exists())
}

fn environment() -> String {
    let mut lines: Vec<String> = env::vars()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    lines.sort();
    lines.concat()
}

fn number(query: &str, name: &str) -> Option<u64> {
    let (_, value) = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)?;
    value.parse().ok()
}
