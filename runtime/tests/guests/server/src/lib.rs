//! | path | what |
//! |---|---|
//! | `/` | `hello` |
//! | `/count` | how often this very instance was asked |
//! | `/say?TEXT` | the text, also on standard output and error |
//! | `/echo` | the request's body, streamed |
//! | `/length` | how many bytes the request's body has; 400 if it ends before its end |
//! | `/method` | method, authority and scheme |
//! | `/wait?MS` | `waited`, after so many milliseconds |
//! | `/spin` | never |
//! | `/trap`, `/exit?CODE`, `/silent`, `/grow?BYTES` | as it says; `/silent` returns without an answer |
//! | `/stream?N` | N pieces of 64 KiB |
//! | `/env?NAME` | the variable's value |
//! | `/cat?PATH` | a file |
//! | `/fetch?URL` | status and body of a GET that the guest makes |
//! | `/random` | a random number |

use std::cell::Cell;
use std::io::Write as _;
use std::{env, fs, process};

use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::http::outgoing_handler;
use wasip2::io::streams::StreamError;
use wasip2::random::random;

struct Server;

wasip2::http::proxy::export!(Server);

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

impl Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => answer(out, 200, "hello"),
            "/count" => {
                COUNT.set(COUNT.get() + 1);
                answer(out, 200, &COUNT.get().to_string());
            }
            "/say" => {
                println!("{query}");
                eprintln!("{query}");
                answer(out, 200, query);
            }
            "/echo" => echo(request, out),
            "/length" => match length(request) {
                Ok(length) => answer(out, 200, &length.to_string()),
                Err(error) => answer(out, 400, &error),
            },
            "/method" => {
                let text = format!("{:?} {:?} {:?}", request.method(), request.authority(), request.scheme());
                answer(out, 200, &text);
            }
            "/wait" => {
                monotonic_clock::subscribe_duration(query.parse::<u64>().unwrap() * 1_000_000).block();
                answer(out, 200, "waited");
            }
            "/spin" => loop {
                core::hint::black_box(0);
            },
            "/trap" => process::abort(),
            "/exit" => process::exit(query.parse().unwrap()),
            "/silent" => {}
            "/grow" => {
                let memory = vec![1u8; query.parse().unwrap()];
                answer(out, 200, &core::hint::black_box(memory).len().to_string());
            }
            "/stream" => {
                let body = begin(out, 200);
                let mut stream = body.write().unwrap();
                for _ in 0..query.parse().unwrap() {
                    stream.write_all(&[b'x'; 64 * 1024]).unwrap();
                }
                drop(stream);
                OutgoingBody::finish(body, None).unwrap();
            }
            "/env" => answer(out, 200, &env::var(query).unwrap_or_default()),
            "/cat" => match fs::read_to_string(query) {
                Ok(text) => answer(out, 200, &text),
                Err(error) => answer(out, 404, &error.to_string()),
            },
            "/fetch" => match fetch(query) {
                Ok(text) => answer(out, 200, &text),
                Err(error) => answer(out, 502, &error),
            },
            "/random" => answer(out, 200, &random::get_random_u64().to_string()),
            _ => answer(out, 404, "no such path"),
        }
    }
}

fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let body = begin(out, status);
    let mut stream = body.write().unwrap();
    // The client may be gone.
    let _ = stream.write_all(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let body = begin(out, 200);
    let mut output = body.write().unwrap();
    loop {
        match input.blocking_read(64 * 1024) {
            Ok(bytes) => output.write_all(&bytes).unwrap(),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                eprintln!("echo: {}", error.to_debug_string());
                return;
            }
        }
    }
    drop(output);
    OutgoingBody::finish(body, None).unwrap();
}

fn length(request: IncomingRequest) -> Result<usize, String> {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let mut length = 0;
    loop {
        match input.blocking_read(64 * 1024) {
            Ok(bytes) => length += bytes.len(),
            Err(StreamError::Closed) => return Ok(length),
            Err(StreamError::LastOperationFailed(error)) => {
                let error = error.to_debug_string();
                // A host with a backtrace to tell tells it below.
                return Err(format!("{length} bytes, then {}", error.lines().next().unwrap_or_default()));
            }
        }
    }
}

fn fetch(url: &str) -> Result<String, String> {
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Get).unwrap();
    request.set_scheme(Some(&scheme)).unwrap();
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| "path")?;
    let future = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    future.subscribe().block();
    let response = future.get().unwrap().unwrap().map_err(|error| format!("{error:?}"))?;
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut text = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(bytes) => text.extend_from_slice(&bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    Ok(format!("{} {}", response.status(), String::from_utf8_lossy(&text)))
}
