//! What listing verbs print: a table for people, JSON for programs.

use std::io::{self, Write as _};

use anstyle::Style;
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

/// `--format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One array of objects
    Json,
}

/// Columns as wide as their longest cell, two blanks between; the last one ends with its text.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    coloured(head, rows, |_, _| Style::new())
}

/// The same, with a style for each cell by its row and column.
pub(crate) fn coloured(head: &[&str], rows: &[Vec<String>], style: impl Fn(usize, usize) -> Style) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = (&str, Style)>| {
        let padded = cells.zip(&widths).map(|((cell, style), width)| {
            // A colour ends with the text.
            let blank = width.saturating_sub(cell.chars().count());
            format!("{style}{cell}{style:#}{:blank$}", "")
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    let mut text = line(&mut head.iter().map(|cell| (*cell, Style::new())));
    for (number, row) in rows.iter().enumerate() {
        text.push_str(&line(&mut row.iter().enumerate().map(|(column, cell)| (cell.as_str(), style(number, column)))));
    }
    text
}

/// Whoever reads our standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Reads,
    /// Went away, as `head` does.
    Left,
}

/// To standard output. Somebody who stopped reading is no error.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<()> {
    print_on(text).map(drop)
}

/// [`print()`] for those who go on printing until nobody reads any more.
pub(crate) fn print_on(text: impl AsRef<[u8]>) -> Result<Reader> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Left),
        done => Ok(done.map(|()| Reader::Reads)?),
    }
}

/// Pretty JSON and a newline.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// The same, printed.
pub(crate) fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    print(json(value)?)
}

/// `5 seconds`, `2 minutes`, `3 hours`, `4 days`: the largest unit that has one.
pub(crate) fn duration(seconds: i64) -> String {
    let (number, unit) = match seconds.max(0) {
        seconds @ 0..60 => (seconds, "second"),
        seconds @ 60..3_600 => (seconds / 60, "minute"),
        seconds @ 3_600..86_400 => (seconds / 3_600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{s}")
}

/// `1.5MiB`, without the blank that would break a column in two for `awk`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", UNITS[unit]) }
}

/// At most so many characters, the last of them an ellipsis if something is left out.
pub(crate) fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = [vec!["a".into(), "1".into()], vec!["längst".into(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       1\nlängst\n");
        assert_eq!(table(&["NAME", "N"], &[]), "NAME  N\n");
        let bold = |row, column| if (row, column) == (0, 0) { Style::new().bold() } else { Style::new() };
        assert_eq!(coloured(&["NAME", "N"], &rows, bold), "NAME    N\n\x1b[1ma\x1b[0m       1\nlängst\n");
    }

    #[test]
    fn durations_have_one_unit() {
        for (seconds, text) in [
            (-5, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7_199, "1 hour"),
            (172_800, "2 days"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn sizes_have_one_digit_and_no_blank() {
        for (size, text) in
            [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (5 << 20, "5.0MiB"), (u64::MAX, "16777216.0TiB")]
        {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn what_is_left_out_is_shown() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
    }
}
