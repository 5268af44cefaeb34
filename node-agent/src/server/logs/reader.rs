//! Sends a log file, and follows it.
//!
//! # Guarantees
//! - Following misses no line: not over a rotation (the file is read to its end before and for a while after the next
//!   one is taken up, in the order of rotation), and not at the container's end (whether it runs is asked before the
//!   file is read, so what it wrote last is read after that).
//! - A reader that is slow holds up nobody but itself; one that goes away ends the reading.
//!
//! # Caveats
//! - As with the kubelet, what was rotated away before the request is not shown; of the last `tailLines` those are that the
//!   file before holds: right after a rotation the newest one is empty.
//! - A follower that sleeps through so many rotations that its next file is deleted goes on with the oldest left.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use samara_core::logs::{Filter, LogOptions};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::rotated::{Identity, predecessor, successor};
use super::tail;
use crate::wakeup::Wakeup;

/// A follower looks again after this long even if nothing was told: the end of a container is no event of the directory.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Whether the container whose log is followed still runs.
pub type Follow = Box<dyn Fn() -> bool + Send + Sync>;

/// Sent at once.
const CHUNK: usize = 32 << 10;
/// A record is at most 16 KiB of text and its head; a longer line is not a log's and is cut there.
const LONGEST_LINE: usize = 1 << 20;
/// How long after a rotation the old file is still looked at: a writer that was stopped between two instructions may
/// have it open.
const LATE_WRITES: Duration = Duration::from_secs(2);

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// Opens the log; the stream ends with the file, or if followed with the container.
pub async fn read(
    path: &Path,
    options: LogOptions,
    running: Follow,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
    let wakeup = options.follow.then(|| Wakeup::on(path.parent().unwrap_or(path)));
    let (before, current) = pieces(path, options.tail_lines).await?;
    let (sender, receiver) = mpsc::channel(4);
    let mut output = Output { filter: Filter::new(options), ready: Vec::new(), sender };
    let path = path.to_owned();
    tokio::spawn(async move {
        let done = send(&path, before, current, &mut output, wakeup, &running).await;
        output.finish(done).await;
    });
    Ok(ReceiverStream::new(receiver))
}

/// A part of a file that is there already.
struct Piece {
    lines: Lines,
    length: u64,
}

impl Piece {
    async fn new(mut file: File, start: u64, end: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start)).await?;
        Ok(Self { lines: Lines::new(file).await?, length: end - start })
    }
}

/// What is asked for of the newest file, and before it of the one that was rotated away last, if the last lines begin there.
async fn pieces(path: &Path, tail_lines: Option<u64>) -> io::Result<(Option<Piece>, Piece)> {
    let mut file = File::open(path).await?;
    let metadata = file.metadata().await?;
    let size = metadata.len();
    let Some(wanted) = tail_lines else { return Ok((None, Piece::new(file, 0, size).await?)) };
    let last = tail::find(&mut file, size, wanted).await?;
    let mut before = None;
    if last.lines < wanted
        && let Some(path) = predecessor(path, &Identity::of(&metadata)).await?
        && let Ok(mut older) = File::open(path).await
    {
        let size = older.metadata().await?.len();
        let start = tail::find(&mut older, size, wanted - last.lines).await?.start;
        before = Some(Piece::new(older, start, size).await?);
    }
    Ok((before, Piece::new(file, last.start, size).await?))
}

async fn send(
    path: &Path,
    before: Option<Piece>,
    mut current: Piece,
    output: &mut Output,
    wakeup: Option<Wakeup>,
    running: &Follow,
) -> io::Result<Stop> {
    if let Some(mut before) = before
        && before.lines.send(output, Some(before.length)).await? == Stop::Enough
    {
        return Ok(Stop::Enough);
    }
    match wakeup {
        // Not further than it was when asked: a busy log would never end.
        None => current.lines.send(output, Some(current.length)).await,
        Some(wakeup) => follow(path, current.lines, output, wakeup, running).await,
    }
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The byte limit, or nobody reads any more.
    Enough,
    /// For now.
    EndOfFile,
}

async fn follow(
    path: &Path,
    mut current: Lines,
    output: &mut Output,
    mut wakeup: Wakeup,
    running: &Follow,
) -> io::Result<Stop> {
    let mut retired: Option<(Lines, Instant)> = None;
    loop {
        let ended = !running();
        if let Some((old, until)) = &mut retired {
            if old.send(output, None).await? == Stop::Enough {
                return Ok(Stop::Enough);
            }
            if Instant::now() > *until {
                retired = None;
            }
        }
        if current.send(output, None).await? == Stop::Enough || !output.flush().await {
            return Ok(Stop::Enough);
        }
        if let Some(next) = successor(path, &current.identity).await? {
            let old = std::mem::replace(&mut current, Lines::new(File::open(next).await?).await?);
            retired = Some((old, Instant::now() + LATE_WRITES));
            continue;
        }
        if ended {
            return Ok(Stop::EndOfFile);
        }
        tokio::select! {
            () = wakeup.wait(LOOKS_EVERY) => {}
            () = output.sender.closed() => return Ok(Stop::Enough),
        }
    }
}

/// One file, read line by line as far as it goes.
#[derive(Debug)]
struct Lines {
    file: File,
    identity: Identity,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
}

impl Lines {
    async fn new(file: File) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata().await?);
        Ok(Self { file, identity, pending: Vec::new() })
    }

    /// Sends what is there now. With a `limit` that is all there ever is: an unfinished line is sent too.
    async fn send(&mut self, output: &mut Output, limit: Option<u64>) -> io::Result<Stop> {
        let mut left = limit.unwrap_or(u64::MAX);
        let mut buffer = vec![0; CHUNK];
        loop {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
            let count = if wanted == 0 { 0 } else { self.file.read(&mut buffer[..wanted]).await? };
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count as u64);
            if self.take(&buffer[..count], output).await == Stop::Enough {
                return Ok(Stop::Enough);
            }
        }
        if limit.is_some() && !self.pending.is_empty() {
            let rest = std::mem::take(&mut self.pending);
            return Ok(output.line(&rest).await);
        }
        Ok(Stop::EndOfFile)
    }

    async fn take(&mut self, read: &[u8], output: &mut Output) -> Stop {
        let mut pieces = read.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LONGEST_LINE.saturating_sub(self.pending.len());
            self.pending.extend_from_slice(&piece[..piece.len().min(room)]);
            // The last piece has no newline behind it.
            if pieces.peek().is_some() {
                let stop = output.line(&self.pending).await;
                self.pending.clear();
                if stop == Stop::Enough {
                    return stop;
                }
            }
        }
        Stop::EndOfFile
    }
}

struct Output {
    filter: Filter,
    ready: Vec<u8>,
    sender: Sender,
}

impl Output {
    async fn line(&mut self, line: &[u8]) -> Stop {
        let more = self.filter.push(line, &mut self.ready);
        let read = self.ready.len() < CHUNK || self.flush().await;
        if more && read { Stop::EndOfFile } else { Stop::Enough }
    }

    /// `false` when nobody reads any more.
    async fn flush(&mut self) -> bool {
        if self.ready.is_empty() {
            return !self.sender.is_closed();
        }
        let chunk = std::mem::take(&mut self.ready);
        self.sender.send(Ok(chunk.into())).await.is_ok()
    }

    async fn finish(mut self, done: io::Result<Stop>) {
        let read = self.flush().await;
        if let (Err(error), true) = (done, read) {
            let _gone = self.sender.send(Err(error)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::StreamExt as _;

    use super::*;

    /// A container's log directory, written as the front writes it.
    struct Log {
        dir: tempfile::TempDir,
        file: fs::File,
        running: Arc<AtomicBool>,
        rotations: u32,
    }

    impl Log {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let file = Self::open(&dir.path().join("0.log"));
            Self { dir, file, running: Arc::new(AtomicBool::new(true)), rotations: 0 }
        }

        fn open(path: &Path) -> fs::File {
            fs::File::options().create(true).append(true).open(path).expect("opened")
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("0.log")
        }

        fn write(&mut self, text: &str) {
            Self::write_to(&mut self.file, text);
        }

        fn write_to(file: &mut fs::File, text: &str) {
            file.write_all(format!("2026-01-02T03:04:05.000000001Z stdout F {text}\n").as_bytes()).expect("written");
        }

        /// Gives the old file, which a writer may still hold.
        fn rotate(&mut self) -> fs::File {
            self.rotations += 1;
            fs::rename(self.path(), self.dir.path().join(format!("0.log.20260102-03040{}", self.rotations)))
                .expect("renamed");
            let new = Self::open(&self.path());
            std::mem::replace(&mut self.file, new)
        }

        fn end(&self) {
            self.running.store(false, Ordering::SeqCst);
        }

        async fn read(&self, options: LogOptions) -> Reading {
            let running = self.running.clone();
            let stream =
                read(&self.path(), options, Box::new(move || running.load(Ordering::SeqCst))).await.expect("opened");
            Reading { stream: Box::pin(stream), got: String::new() }
        }
    }

    struct Reading {
        stream: futures::stream::BoxStream<'static, io::Result<Bytes>>,
        got: String,
    }

    impl Reading {
        async fn until(&mut self, text: &str) {
            while !self.got.contains(text) {
                let chunk = self.stream.next().await.unwrap_or_else(|| panic!("ended before {text:?}: {:?}", self.got));
                self.got.push_str(std::str::from_utf8(&chunk.expect("read")).expect("text"));
            }
        }

        async fn all(mut self) -> String {
            while let Some(chunk) = self.stream.next().await {
                self.got.push_str(std::str::from_utf8(&chunk.expect("read")).expect("text"));
            }
            self.got
        }
    }

    fn following() -> LogOptions {
        LogOptions { follow: true, ..LogOptions::default() }
    }

    #[tokio::test]
    async fn a_log_is_sent_as_it_is_now() {
        let mut log = Log::new();
        log.write("one");
        log.write("two");
        assert_eq!(log.read(LogOptions::default()).await.all().await, "one\ntwo\n");
    }

    #[tokio::test]
    async fn the_last_lines_only() {
        let mut log = Log::new();
        for line in ["one", "two", "three"] {
            log.write(line);
        }
        let options = LogOptions { tail_lines: Some(2), ..LogOptions::default() };
        assert_eq!(log.read(options).await.all().await, "two\nthree\n");
    }

    #[tokio::test]
    async fn the_last_lines_are_found_in_the_file_that_was_just_rotated_away() {
        let mut log = Log::new();
        log.write("one");
        log.rotate();
        log.write("two");
        log.write("three");
        log.rotate();
        let tail = |lines| LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
        assert_eq!(log.read(tail(1)).await.all().await, "three\n");
        assert_eq!(log.read(tail(0)).await.all().await, "");
        log.write("four");
        let table = [(1, "four\n"), (2, "three\nfour\n"), (9, "two\nthree\nfour\n")];
        for (lines, want) in table {
            assert_eq!(log.read(tail(lines)).await.all().await, want, "{lines}");
        }
        let mut reading = log.read(LogOptions { follow: true, ..tail(2) }).await;
        reading.until("three\nfour\n").await;
        log.write("five");
        log.end();
        assert_eq!(reading.all().await, "three\nfour\nfive\n");
    }

    #[tokio::test]
    async fn following_ends_when_the_container_ended_and_has_its_last_words() {
        let mut log = Log::new();
        log.write("first");
        let mut reading = log.read(following()).await;
        reading.until("first\n").await;
        log.write("last");
        log.end();
        assert_eq!(reading.all().await, "first\nlast\n");
    }

    #[tokio::test]
    async fn following_goes_on_over_rotations() {
        let mut log = Log::new();
        let mut reading = log.read(following()).await;
        let mut expected = String::new();
        for line in 0..50 {
            let text = format!("line {line}");
            log.write(&text);
            expected.push_str(&format!("{text}\n"));
            if line % 10 == 9 {
                reading.until(&text).await;
                log.rotate();
            }
        }
        log.end();
        assert_eq!(reading.all().await, expected);
    }

    #[tokio::test]
    async fn two_rotations_between_two_looks_are_read_in_order() {
        let mut log = Log::new();
        let mut reading = log.read(following()).await;
        log.write("a");
        reading.until("a\n").await;
        log.rotate();
        log.write("b");
        log.rotate();
        log.write("c");
        log.end();
        assert_eq!(reading.all().await, "a\nb\nc\n");
    }

    #[tokio::test]
    async fn what_is_written_late_to_the_rotated_file_is_not_lost() {
        let mut log = Log::new();
        let mut reading = log.read(following()).await;
        log.write("before");
        let mut old = log.rotate();
        log.write("after");
        reading.until("after\n").await;
        Log::write_to(&mut old, "late");
        log.write("still");
        reading.until("late\n").await;
        reading.until("still\n").await;
        log.end();
        reading.all().await;
    }

    #[tokio::test]
    async fn a_line_written_in_two_halves_is_one_line() {
        let mut log = Log::new();
        let mut reading = log.read(following()).await;
        log.write("whole");
        log.file.write_all(b"2026-01-02T03:04:05.000000001Z stdout F ha").expect("written");
        reading.until("whole\n").await;
        log.file.write_all(b"lf\n").expect("written");
        log.end();
        assert_eq!(reading.all().await, "whole\nhalf\n");
    }

    #[tokio::test]
    async fn a_byte_limit_ends_even_a_followed_log() {
        let mut log = Log::new();
        log.write("0123456789");
        let options = LogOptions { limit_bytes: Some(4), ..following() };
        assert_eq!(log.read(options).await.all().await, "0123");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_ends_the_reading() {
        let log = Log::new();
        let reading = log.read(following()).await;
        let watched = Arc::downgrade(&log.running);
        drop(reading);
        let gone = async {
            while watched.strong_count() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the reading task let go of the container");
    }

    #[tokio::test]
    async fn garbage_in_a_log_is_skipped() {
        let mut log = Log::new();
        log.file.write_all(&[0xff; 100_000]).expect("written");
        log.file.write_all(b"\n\nnot a record\n").expect("written");
        log.write("good");
        assert_eq!(log.read(LogOptions::default()).await.all().await, "good\n");
    }
}
