//! One GET over `wasi:http`, answered whole.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingResponse, Method, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

/// Beyond this an answer is not worth holding in a small guest.
const LARGEST: usize = 16 << 20;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

pub fn get(server: &str, path: &str, token: &str) -> Result<Answer, String> {
    let headers = Fields::new();
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("accept", "application/json".to_owned()),
    ] {
        headers
            .append(name, &value.into_bytes())
            .map_err(|error| format!("header {name}: {error}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let refused = |()| format!("`{server}{path}` is not a request");
    request.set_method(&Method::Get).map_err(refused)?;
    request.set_scheme(Some(&Scheme::Https)).map_err(refused)?;
    request.set_authority(Some(server)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;

    let failed = |error| format!("GET https://{server}{path}: {error}");
    let future = outgoing_handler::handle(request, None).map_err(failed)?;
    future.subscribe().block();
    let response = future
        .get()
        .ok_or("no answer though one was announced")?
        .map_err(|()| "the answer was taken twice")?
        .map_err(failed)?;
    Ok(Answer {
        status: response.status(),
        body: read(&response)?,
    })
}

fn read(response: &IncomingResponse) -> Result<Vec<u8>, String> {
    let taken = |()| "the answer's body was taken twice".to_owned();
    let body = response.consume().map_err(taken)?;
    let stream = body.stream().map_err(taken)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(format!("reading the answer: {}", error.to_debug_string()));
            }
        }
        if bytes.len() > LARGEST {
            return Err(format!("the answer is longer than {LARGEST} bytes"));
        }
    }
}
