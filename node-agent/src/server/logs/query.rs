//! The query of a log request: `v1.PodLogOptions`.

use jiff::{SignedDuration, Timestamp};
use samara_core::logs::{LogOptions, Stream};

/// What is wrong with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryError {
    /// A value is not of its kind.
    Undecodable,
    /// A value is out of range, or two contradict each other.
    Invalid,
}

/// Unknown parameters are ignored, as the kubelet does: `container`, `pretty`, `insecureSkipTLSVerifyBackend`.
pub(super) fn parse(query: &str, now: Timestamp) -> Result<LogOptions, QueryError> {
    let mut options = LogOptions::default();
    let (mut tail, mut limit, mut since_seconds, mut since_time) = (None, None, None, None);
    for (key, value) in form(query) {
        match key.as_str() {
            "follow" => options.follow = boolean(&value),
            "previous" => options.previous = boolean(&value),
            "timestamps" => options.timestamps = boolean(&value),
            "tailLines" => tail = Some(integer(&value)?),
            // Older than tailLines; `all` is the same as none.
            "tail" => tail = if value == "all" { None } else { Some(integer(&value)?) },
            "limitBytes" => limit = Some(integer(&value)?),
            "sinceSeconds" => since_seconds = Some(integer(&value)?),
            "sinceTime" => since_time = Some(value.parse::<Timestamp>().map_err(|_| QueryError::Undecodable)?),
            "stream" => {
                options.stream = match value.as_str() {
                    "" | "All" => None,
                    "Stdout" => Some(Stream::Stdout),
                    "Stderr" => Some(Stream::Stderr),
                    _ => return Err(QueryError::Invalid),
                };
            }
            _ => {}
        }
    }
    options.tail_lines = tail.map(|lines| at_least(lines, 0)).transpose()?;
    options.limit_bytes = limit.map(|bytes| at_least(bytes, 1)).transpose()?;
    if options.tail_lines.is_some() && options.stream.is_some() {
        return Err(QueryError::Invalid);
    }
    options.since = match (since_seconds, since_time) {
        (None, since) => since,
        (Some(seconds), None) => {
            at_least(seconds, 1)?;
            Some(now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN))
        }
        (Some(_), Some(_)) => return Err(QueryError::Invalid),
    };
    Ok(options)
}

/// `application/x-www-form-urlencoded`.
pub(in super::super) fn form(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// `%XX` and `+`; what is not an escape stays as it is.
pub(in super::super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (escaped, first) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = &tail[2..];
                continue;
            }
            (None, b'+') => bytes.push(b' '),
            (None, byte) => bytes.push(byte),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As apimachinery converts a query's value.
pub(in super::super) fn boolean(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn integer(value: &str) -> Result<i64, QueryError> {
    value.parse().map_err(|_| QueryError::Undecodable)
}

fn at_least(value: i64, least: u64) -> Result<u64, QueryError> {
    u64::try_from(value).ok().filter(|value| *value >= least).ok_or(QueryError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().expect("a time")
    }

    #[test]
    fn every_option_is_read() {
        let query = "container=c&follow=true&previous=1&timestamps=&tailLines=5&limitBytes=100&sinceSeconds=5&pretty=x";
        let expected = LogOptions {
            follow: true,
            previous: true,
            timestamps: true,
            since: Some("2026-01-02T03:04:00Z".parse().expect("a time")),
            tail_lines: Some(5),
            limit_bytes: Some(100),
            stream: None,
        };
        assert_eq!(parse(query, now()), Ok(expected));
    }

    #[test]
    fn nothing_asked_is_everything() {
        assert_eq!(parse("", now()), Ok(LogOptions::default()));
        assert_eq!(
            parse("follow=false&previous=0&timestamps=False&tail=all&stream=All", now()),
            Ok(LogOptions::default())
        );
    }

    #[test]
    fn a_time_may_have_a_zone_and_escapes() {
        let since = parse("sinceTime=2026-01-02T04%3A04%3A05%2B01%3A00", now()).map(|options| options.since);
        assert_eq!(since, Ok(Some("2026-01-02T03:04:05Z".parse().expect("a time"))));
    }

    #[test]
    fn wrong_values_are_told_apart() {
        let table = [
            ("tailLines=five", QueryError::Undecodable),
            ("tailLines=99999999999999999999", QueryError::Undecodable),
            ("sinceTime=yesterday", QueryError::Undecodable),
            ("tailLines=-1", QueryError::Invalid),
            ("limitBytes=0", QueryError::Invalid),
            ("sinceSeconds=0", QueryError::Invalid),
            ("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", QueryError::Invalid),
            ("stream=stdall", QueryError::Invalid),
            ("stream=Stdout&tailLines=1", QueryError::Invalid),
        ];
        for (query, expected) in table {
            assert_eq!(parse(query, now()), Err(expected), "{query}");
        }
    }

    #[test]
    fn a_very_long_since_is_all_of_time() {
        let since = parse("sinceSeconds=9223372036854775807", now()).map(|options| options.since);
        assert_eq!(since, Ok(Some(Timestamp::MIN)));
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(decode("a%2"), "a%2");
        assert_eq!(decode("a%zz%41+b"), "a%zzA b");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
