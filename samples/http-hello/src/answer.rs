//! Answers over `wasi:http`: a text at once, or the request's body as it comes.

use std::io::{self, Write as _};

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// The statuses this server answers with.
#[derive(Debug, Clone, Copy)]
pub enum Status {
    Ok = 200,
    BadRequest = 400,
    NotFound = 404,
    Unavailable = 503,
}

/// A whole text, with its length.
pub fn answer(outparam: ResponseOutparam, status: Status, text: &str) {
    let body = begin(outparam, status, Some(text.len()));
    let written = {
        let mut stream = body.write().expect("a body has one stream");
        stream
            .write_all(text.as_bytes())
            .and_then(|()| io::Write::flush(&mut stream))
    };
    finish(body, written);
}

/// The request's body, piece by piece.
pub fn echo(outparam: ResponseOutparam, request: &IncomingRequest) {
    let incoming = request.consume().expect("a request has one body");
    let body = begin(outparam, Status::Ok, None);
    let copied = {
        let input = incoming.stream().expect("a body has one stream");
        let mut output = body.write().expect("a body has one stream");
        loop {
            match input.blocking_read(64 * 1024) {
                Ok(bytes) => {
                    if let Err(error) = output
                        .write_all(&bytes)
                        .and_then(|()| io::Write::flush(&mut output))
                    {
                        break Err(error);
                    }
                }
                Err(StreamError::Closed) => break Ok(()),
                Err(StreamError::LastOperationFailed(error)) => {
                    break Err(io::Error::other(error.to_debug_string()));
                }
            }
        }
    };
    finish(body, copied);
}

fn begin(outparam: ResponseOutparam, status: Status, length: Option<usize>) -> OutgoingBody {
    let headers = Fields::new();
    let text = b"text/plain; charset=utf-8".to_vec();
    headers
        .append("content-type", &text)
        .expect("a known header");
    if let Some(length) = length {
        let length = length.to_string().into_bytes();
        headers
            .append("content-length", &length)
            .expect("a known header");
    }
    let response = OutgoingResponse::new(headers);
    response
        .set_status_code(status as u16)
        .expect("a known status");
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(outparam, Ok(response));
    body
}

/// A client that went away is no fault of ours, but worth a line.
fn finish(body: OutgoingBody, written: io::Result<()>) {
    match written {
        Ok(()) => {
            if let Err(error) = OutgoingBody::finish(body, None) {
                eprintln!("http-hello: the answer was not finished: {error}");
            }
        }
        Err(error) => eprintln!("http-hello: the answer was cut short: {error}"),
    }
}
