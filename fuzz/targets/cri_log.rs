//! CRI log files: lines, their beginning from the end, and what a client gets of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samara_core::logs::{Filter, LogOptions, Stream, parse, tail_start};

fuzz_target!(|bytes: &[u8]| {
    let Some(([lines, limit, options], file)) = bytes.split_first_chunk() else { return };
    let start = tail_start(file, u64::from(*lines));
    assert!(start == 0 || file[start - 1] == b'\n', "the tail begins a line");
    let limit_bytes = (options & 1 == 1).then_some(u64::from(*limit));
    let mut filter = Filter::new(LogOptions {
        timestamps: options & 2 == 2,
        since: (options & 4 == 4).then(|| "2026-01-02T03:04:05Z".parse().expect("a time")),
        stream: (options & 8 == 8).then_some(Stream::Stderr),
        limit_bytes,
        ..LogOptions::default()
    });
    let mut out = Vec::new();
    for line in file[start..].split(|byte| *byte == b'\n') {
        if let Some(record) = parse(line) {
            assert!(line.ends_with(record.text), "a record's text is the line's end");
        }
        if !filter.push(line, &mut out) {
            break;
        }
    }
    assert!(limit_bytes.is_none_or(|limit| out.len() as u64 <= limit), "no more than was asked for");
});
