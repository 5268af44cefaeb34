//! Where the last lines of a file begin, found from its end.

use std::io::{self, SeekFrom};

use samara_core::logs::tail_start;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Read from the end at first; four times as much each time that is not enough.
const FIRST: u64 = 64 << 10;

/// The last lines of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// Where they begin.
    pub(super) start: u64,
    /// How many there are: fewer than wanted if that is all.
    pub(super) lines: u64,
}

/// The last `lines` lines of `file`, of which the first `size` bytes are looked at.
pub(super) async fn find(file: &mut File, size: u64, lines: u64) -> io::Result<Tail> {
    let mut looked_at = FIRST.min(size);
    loop {
        let offset = size - looked_at;
        let mut end = vec![0; usize::try_from(looked_at).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(offset)).await?;
        file.read_exact(&mut end).await?;
        let start = tail_start(&end, lines);
        // At the very beginning of what was read there may be half a line, or there may be more lines before it.
        if start > 0 || offset == 0 || lines == 0 {
            let lines = end[start..].iter().filter(|byte| **byte == b'\n').count() as u64;
            return Ok(Tail { start: offset + start as u64, lines });
        }
        looked_at = (looked_at * 4).min(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tail_of(content: &[u8], lines: u64) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        let mut file = File::open(file.path()).await.expect("opened");
        let tail = find(&mut file, content.len() as u64, lines).await.expect("found");
        let text = content[usize::try_from(tail.start).expect("small")..].to_vec();
        assert_eq!(tail.lines, text.split_inclusive(|byte| *byte == b'\n').count() as u64);
        text
    }

    #[tokio::test]
    async fn the_last_lines_are_found_however_long_they_are() {
        let long = vec![b'x'; 100_000];
        let content = [b"first\n".as_slice(), &long, b"\n", &long, b"\nlast\n"].concat();
        let from_second = content.strip_prefix(b"first\n").expect("it begins so").to_vec();
        assert_eq!(tail_of(&content, 1).await, b"last\n");
        assert_eq!(tail_of(&content, 3).await, from_second);
        assert_eq!(tail_of(&content, 4).await, content);
        assert_eq!(tail_of(&content, 1000).await, content);
        assert_eq!(tail_of(&content, 0).await, b"");
    }

    #[tokio::test]
    async fn an_empty_file_has_no_lines() {
        assert_eq!(tail_of(b"", 10).await, b"");
    }

    #[tokio::test]
    async fn a_line_that_begins_exactly_where_the_reading_did_is_whole() {
        let line = [vec![b'y'; usize::try_from(FIRST).expect("small") - 1], b"\n".to_vec()].concat();
        let content = [b"before\n".as_slice(), &line].concat();
        assert_eq!(tail_of(&content, 1).await, line);
    }
}
