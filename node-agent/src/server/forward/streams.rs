//! Which streams belong together: of each connection one for its data and one for what goes wrong. Pure.

use std::collections::HashMap;

use super::headers::Headers;

/// Both streams of a connection are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) port: u16,
    pub(super) data: u32,
    pub(super) error: u32,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Error,
}

/// A stream that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) kind: Kind,
    /// The connection that is complete with it.
    pub(super) connection: Option<Connection>,
}

/// A stream that cannot be one of a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    #[error("a stream of type {0:?}, neither \"data\" nor \"error\"")]
    Kind(String),
    #[error("a stream to port {0:?}")]
    Port(String),
    #[error("a second stream of the same kind for request {0:?}")]
    Twice(String),
    #[error("{MOST} requests have one stream of two")]
    TooMany,
}

/// So many requests may wait for their second stream.
const MOST: usize = 64;

/// Streams whose other half is not open yet, by request.
#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<String, (Kind, u32, u16)>);

impl Streams {
    pub(super) fn open(&mut self, stream: u32, headers: &Headers) -> Result<Opened, StreamError> {
        let text = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let kind = match text("streamtype").as_str() {
            "data" => Kind::Data,
            "error" => Kind::Error,
            other => return Err(StreamError::Kind(other.to_owned())),
        };
        let port =
            text("port").parse().ok().filter(|port| *port != 0).ok_or_else(|| StreamError::Port(text("port")))?;
        let request = text("requestid");
        let Some((other, first, first_port)) = self.0.get(&request).copied() else {
            if self.0.len() == MOST {
                return Err(StreamError::TooMany);
            }
            self.0.insert(request, (kind, stream, port));
            return Ok(Opened { kind, connection: None });
        };
        if other == kind {
            return Err(StreamError::Twice(request));
        }
        if first_port != port {
            return Err(StreamError::Port(text("port")));
        }
        self.0.remove(&request);
        let (data, error) = if kind == Kind::Data { (stream, first) } else { (first, stream) };
        Ok(Opened { kind, connection: Some(Connection { port, data, error }) })
    }

    /// The client gave a stream up: its request will not be complete.
    pub(super) fn reset(&mut self, stream: u32) {
        self.0.retain(|_, (_, first, _)| *first != stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: &str, port: &str, request: &str) -> Headers {
        let all = [("streamtype", kind), ("port", port), ("requestid", request)];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_connection_is_complete_with_its_second_stream_in_either_order() {
        let mut streams = Streams::default();
        let open = |streams: &mut Streams, stream, kind, request| {
            streams.open(stream, &headers(kind, "80", request)).unwrap().connection
        };
        assert_eq!(open(&mut streams, 1, "error", "0"), None);
        assert_eq!(open(&mut streams, 3, "data", "1"), None);
        assert_eq!(open(&mut streams, 5, "data", "0"), Some(Connection { port: 80, data: 5, error: 1 }));
        assert_eq!(open(&mut streams, 7, "error", "1"), Some(Connection { port: 80, data: 3, error: 7 }));
        assert_eq!(open(&mut streams, 9, "error", "0"), None, "a request's number may come again");
    }

    #[test]
    fn a_stream_that_fits_no_connection_is_refused_by_name() {
        let mut streams = Streams::default();
        streams.open(1, &headers("error", "80", "0")).unwrap();
        let table = [
            (headers("stdin", "80", "1"), StreamError::Kind("stdin".to_owned())),
            (Headers::new(), StreamError::Kind(String::new())),
            (headers("data", "0", "1"), StreamError::Port("0".to_owned())),
            (headers("data", "65536", "1"), StreamError::Port("65536".to_owned())),
            (headers("data", "http", "1"), StreamError::Port("http".to_owned())),
            (headers("error", "80", "0"), StreamError::Twice("0".to_owned())),
            (headers("data", "81", "0"), StreamError::Port("81".to_owned())),
        ];
        for (headers, want) in table {
            assert_eq!(streams.open(3, &headers), Err(want));
        }
    }

    #[test]
    fn halves_that_wait_are_bounded_and_forgotten_when_given_up() {
        let mut streams = Streams::default();
        for request in 0..MOST {
            streams.open(u32::try_from(request).unwrap(), &headers("error", "80", &request.to_string())).unwrap();
        }
        assert_eq!(streams.open(999, &headers("error", "80", "more")), Err(StreamError::TooMany));
        streams.reset(7);
        assert!(streams.open(999, &headers("error", "80", "more")).is_ok());
    }
}
