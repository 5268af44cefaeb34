//! The last lines of a log, of which a line may be several records and two streams may have one each at a time. Pure.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use samara_core::logs::{Stream, parse};

/// `--tail`: all, or so many.
pub(super) fn read(text: &str) -> Result<Option<usize>> {
    match text {
        "all" => Ok(None),
        lines => match lines.parse() {
            Ok(lines) => Ok(Some(lines)),
            Err(_) => bail!("--tail {text}: write a number of lines, or all"),
        },
    }
}

/// Keeps the records of the last lines; lines are counted by their beginnings.
#[derive(Debug)]
pub(super) struct Tail {
    most: usize,
    begun: usize,
    /// The line that is unfinished, of standard output and of standard error.
    open: [Option<usize>; 2],
    /// Each with the number of its line.
    kept: VecDeque<(usize, Vec<u8>)>,
}

impl Tail {
    pub(super) fn of(most: usize) -> Self {
        Self { most, begun: 0, open: [None; 2], kept: VecDeque::new() }
    }

    /// What is no record is no part of a line.
    pub(super) fn push(&mut self, text: Vec<u8>) {
        let Some(record) = parse(&text) else { return };
        let open = match record.stream {
            Stream::Stdout => &mut self.open[0],
            Stream::Stderr => &mut self.open[1],
        };
        let line = open.take().unwrap_or_else(|| {
            self.begun += 1;
            self.begun
        });
        if record.partial {
            *open = Some(line);
        }
        self.kept.push_back((line, text));
        while self.kept.front().is_some_and(|(line, _)| !self.is_kept(*line)) {
            self.kept.pop_front();
        }
    }

    fn is_kept(&self, line: usize) -> bool {
        line + self.most > self.begun
    }

    /// Records, the oldest first.
    pub(super) fn records(self) -> Vec<Vec<u8>> {
        let kept = self.kept.iter().filter(|(line, _)| self.is_kept(*line));
        kept.map(|(_, text)| text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_not_their_records() {
        for (records, most, kept) in [
            ("oP1 oP2 oF3 oF4", 2, "oP1 oP2 oF3 oF4"),
            ("oP1 oP2 oF3 oF4", 1, "oF4"),
            ("oF1 oF2 oF3", 2, "oF2 oF3"),
            ("oF1 oP2", 1, "oP2"),
            ("oF1 oF2", 0, ""),
            ("", 3, ""),
            // Each stream has a line of its own.
            ("oP1 eP2 oF3 eF4", 2, "oP1 eP2 oF3 eF4"),
            ("oP1 eP2 oF3 eF4", 1, "eP2 eF4"),
            ("oP1 eF2 eF3 oF4", 2, "eF2 eF3"),
        ] {
            let line = |record: &str| {
                let stream = if record.starts_with('o') { "stdout" } else { "stderr" };
                format!("2026-01-02T03:04:05Z {stream} {} {record}", &record[1..2]).into_bytes()
            };
            let mut tail = Tail::of(most);
            records.split_whitespace().map(line).for_each(|record| tail.push(record));
            tail.push(b"no record".to_vec());
            let found: Vec<_> = tail.records();
            assert_eq!(found, kept.split_whitespace().map(line).collect::<Vec<_>>(), "{records} {most}");
        }
    }

    #[test]
    fn a_tail_is_a_number_or_all() {
        assert_eq!(read("all").unwrap(), None);
        assert_eq!(read("0").unwrap(), Some(0));
        assert!(read("-1").is_err());
    }
}
