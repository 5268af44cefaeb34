//! CRI log records: `<RFC3339Nano> <stream> <F|P> <text>\n`.
//!
//! Format: `pkg/kubelet/kuberuntime/logs` of Kubernetes. `F` ends a line; `P` is part of one, and the next record of the
//! same stream goes on with it. A guest's text without newline is written at once, as a `P` record, so that nothing is
//! lost when the process is killed.

use std::io::IoSlice;

use crate::Stream;

/// Records of one write of a guest, ready for `writev`.
pub(super) struct Records<'a> {
    /// `<time> <stream> F `; the `P` form differs in one byte.
    full: String,
    partial: String,
    text: &'a [u8],
}

/// Longest text of a record. The kubelet's own readers take any; containerd splits at this length.
const LONGEST: usize = 16 * 1024;

impl<'a> Records<'a> {
    pub(super) fn new(now: jiff::Timestamp, stream: Stream, text: &'a [u8]) -> Self {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        Self { full: format!("{now:.9} {stream} F "), partial: format!("{now:.9} {stream} P "), text }
    }

    /// How many records there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.each().count()
    }

    /// The records, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = [IoSlice<'_>; 3]> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let window = &rest[..rest.len().min(LONGEST + 1)];
            let (prefix, text, used) = match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&self.full, &rest[..end], end + 1),
                None => {
                    let end = rest.len().min(LONGEST);
                    (&self.partial, &rest[..end], end)
                }
            };
            rest = &rest[used..];
            Some([IoSlice::new(prefix.as_bytes()), IoSlice::new(text), IoSlice::new(b"\n")])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &[u8]) -> String {
        let now: jiff::Timestamp = "2026-01-02T03:04:05.000000006Z".parse().unwrap();
        let records = Records::new(now, Stream::Stdout, text);
        records.each().flatten().map(|slice| String::from_utf8_lossy(&slice).into_owned()).collect()
    }

    #[test]
    fn each_line_is_a_full_record_with_nine_digits_of_a_second() {
        assert_eq!(
            records(b"one\n\ntwo\n"),
            "2026-01-02T03:04:05.000000006Z stdout F one\n\
             2026-01-02T03:04:05.000000006Z stdout F \n\
             2026-01-02T03:04:05.000000006Z stdout F two\n"
        );
    }

    #[test]
    fn text_without_newline_is_a_partial_record() {
        assert_eq!(
            records(b"one\ntw"),
            "2026-01-02T03:04:05.000000006Z stdout F one\n\
             2026-01-02T03:04:05.000000006Z stdout P tw\n"
        );
    }

    #[test]
    fn nothing_makes_no_record() {
        assert_eq!(records(b""), "");
    }

    #[test]
    fn a_line_longer_than_a_record_goes_on_in_the_next() {
        let mut text = vec![b'x'; LONGEST];
        text.push(b'\n');
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(Records::new(now, Stream::Stderr, &text).count(), 1, "exactly fitting");
        text.insert(0, b'x');
        let records = Records::new(now, Stream::Stderr, &text);
        let kinds: Vec<_> = records.each().map(|[prefix, text, _]| (prefix[38], text.len())).collect();
        assert_eq!(kinds, [(b'P', LONGEST), (b'F', 1)]);
    }
}
