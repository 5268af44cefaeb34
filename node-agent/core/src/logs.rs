//! CRI log files: one line, and which lines a `containerLogs` request gets (kubelet: `cri-client/pkg/logs/logs.go`,
//! `tail.go`).

use jiff::Timestamp;

/// Which stream wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Timestamp,
    pub stream: Stream,
    /// `P`: the text goes on in the next record.
    pub partial: bool,
    /// Without the newline.
    pub text: &'a [u8],
}

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    /// Set from `sinceSeconds` too.
    pub since: Option<Timestamp>,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub stream: Option<Stream>,
}

/// Reads one line without its newline: `<RFC3339> <stdout|stderr> <tags> <text>`; `None` if it is not one.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tags, text) = word(rest)?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // The first of several tags, `:` between, says whether the line is whole.
    let partial = match tags.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let time = std::str::from_utf8(time).ok()?.parse().ok()?;
    Some(Record { time, stream, partial, text })
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..end], &text[end + 1..]))
}

/// Where the last `lines` lines of `file` begin; one that is not finished yet comes on top.
pub fn tail_start(file: &[u8], lines: u64) -> usize {
    let newlines = file.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let before = usize::try_from(lines).ok().and_then(|lines| newlines.map(|(at, _)| at).nth(lines));
    before.map_or(0, |at| at + 1)
}

/// Applies options to lines as they come. `tail_lines`, `follow` and `previous` are the reader's matter.
#[derive(Debug, Clone)]
pub struct Filter {
    options: LogOptions,
    left: Option<u64>,
}

impl Filter {
    /// Nothing sent yet.
    pub fn new(options: LogOptions) -> Self {
        let left = options.limit_bytes;
        Self { options, left }
    }

    /// Appends what the client gets for this line (without its newline); `false`: `limitBytes` is reached, stop. A line
    /// that is no record gives nothing.
    pub fn push(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        if let Some(record) = parse(line).filter(|record| self.wanted(record)) {
            let before = out.len();
            if self.options.timestamps {
                out.extend_from_slice(format!("{:.9} ", record.time).as_bytes());
            }
            out.extend_from_slice(record.text);
            if !record.partial {
                out.push(b'\n');
            }
            if let Some(left) = &mut self.left {
                let room = usize::try_from(*left).unwrap_or(usize::MAX);
                out.truncate(before.saturating_add(room));
                *left -= (out.len() - before) as u64;
            }
        }
        self.left != Some(0)
    }

    fn wanted(&self, record: &Record<'_>) -> bool {
        self.options.since.is_none_or(|since| record.time >= since)
            && self.options.stream.is_none_or(|stream| record.stream == stream)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str], options: LogOptions) -> String {
        let mut filter = Filter::new(options);
        let mut out = Vec::new();
        for line in lines {
            if !filter.push(line.as_bytes(), &mut out) {
                break;
            }
        }
        String::from_utf8(out).unwrap()
    }

    const LINES: [&str; 4] = [
        "2024-05-01T10:00:00.5Z stdout F one",
        "2024-05-01T10:00:01.000000001Z stderr P tw",
        "2024-05-01T12:00:02+02:00 stderr F o",
        "2024-05-01T10:00:03Z stdout F ",
    ];

    #[test]
    fn a_partial_record_is_joined_with_the_next() {
        assert_eq!(read(&LINES, LogOptions::default()), "one\ntwo\n\n");
    }

    #[test]
    fn timestamps_have_nine_digits() {
        let options = LogOptions { timestamps: true, ..LogOptions::default() };
        assert_eq!(read(&LINES[..1], options), "2024-05-01T10:00:00.500000000Z one\n");
    }

    #[test]
    fn only_one_stream_can_be_asked_for() {
        let options = LogOptions { stream: Some(Stream::Stderr), ..LogOptions::default() };
        assert_eq!(read(&LINES, options), "two\n");
    }

    #[test]
    fn what_is_older_than_since_is_left_out() {
        let since = Some("2024-05-01T10:00:02Z".parse().unwrap());
        assert_eq!(read(&LINES, LogOptions { since, ..LogOptions::default() }), "o\n\n");
    }

    #[test]
    fn the_byte_limit_cuts_in_the_middle_of_a_line() {
        let options = |limit| LogOptions { limit_bytes: Some(limit), ..LogOptions::default() };
        assert_eq!(read(&LINES, options(5)), "one\nt");
        assert_eq!(read(&LINES, options(0)), "");
        assert_eq!(read(&LINES, options(u64::MAX)), "one\ntwo\n\n");
    }

    #[test]
    fn lines_that_are_no_records_give_nothing() {
        for line in ["", "x", "2024 stdout F x", "2024-05-01T10:00:00Z stdin F x", "2024-05-01T10:00:00Z stdout X x"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
            assert_eq!(read(&[line], LogOptions::default()), "");
        }
    }

    #[test]
    fn the_tail_begins_after_the_newline_before_it() {
        assert_eq!(tail_start(b"a\nb\nc\n", 1), 4);
        assert_eq!(tail_start(b"a\nb\nc\n", 2), 2);
        assert_eq!(tail_start(b"a\nb\nc\n", 9), 0);
        assert_eq!(tail_start(b"a\nb\nc\n", 0), 6);
        assert_eq!(tail_start(b"a\nb\nc", 1), 2);
        assert_eq!(tail_start(b"", 3), 0);
    }

    proptest! {
        #[test]
        fn the_tail_has_as_many_lines_as_asked_for_or_all(file in "[a\\n]{0,60}", lines in 0_u64..8) {
            let tail = &file.as_bytes()[tail_start(file.as_bytes(), lines)..];
            let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            prop_assert_eq!(count(tail), count(file.as_bytes()).min(lines));
        }

        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
        }
    }
}
