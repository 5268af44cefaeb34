//! `samara logs`: what a container wrote, as it came and where it came: standard output there, standard error there.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use flate2::read::MultiGzDecoder;
use jiff::{SignedDuration, Span, Timestamp};
use samara_core::logs::{Stream, parse};

use super::tail::{self, Tail};
use crate::container::{Container, Shelf, Status};
use crate::format::Reader;
use crate::place::Place;
use crate::supervise::log::rotated;
use crate::tell::complain;

/// What `samara logs` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara logs -f web
  samara logs --tail 100 -t web
  samara logs --since 10m web 2>/dev/null      # without what it wrote to standard error

Of a container that was run with --rm nothing is kept; of others 5 files of 10 MiB.")]
pub(crate) struct LogsArgs {
    /// Name or id
    container: String,
    /// Go on until it has ended
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines of the end
    #[arg(short = 'n', long, value_name = "LINES|all", default_value = "all")]
    tail: String,
    /// Only what is newer: a time (2026-01-02T03:04:05Z) or how long ago (10m, 1h30m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what is older, in the same way
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// With the time of each line
    #[arg(short, long)]
    timestamps: bool,
    #[command(flatten)]
    place: Place,
}

/// How long a follower sleeps at most before it looks again.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn main(args: LogsArgs) -> Result<ExitCode> {
    let now = Timestamp::now();
    let wanted = Wanted {
        since: args.since.as_deref().map(|text| moment(text, now)).transpose()?,
        until: args.until.as_deref().map(|text| moment(text, now)).transpose()?,
        timestamps: args.timestamps,
    };
    let tail = tail::read(&args.tail)?;
    let container = Shelf::of(&args.place.absolute()?).find(&args.container)?;
    let mut out = Out { wanted, at_line_start: true };
    let shown = show(&container, tail, args.follow, &mut out);
    if let (Ok(()), Status::Exited { ended: Some(ended) }) = (&shown, container.status()?)
        && let Some(message) = ended.untold()
    {
        complain(message);
    }
    match shown {
        // Whoever read it went away.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

/// What it has written.
pub(crate) fn whole(container: &Container) -> Result<()> {
    let wanted = Wanted { since: None, until: None, timestamps: false };
    match show(container, None, false, &mut Out { wanted, at_line_start: true }) {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

/// A place in a container's log: what is written behind it is still to be shown.
pub(super) struct Follower {
    container: Container,
    current: Option<Current>,
}

impl Follower {
    /// Behind all that it has written so far.
    pub(super) fn from_now(container: &Container) -> Result<Self> {
        let mut current = open_current(&container.log())?;
        if let Some(current) = &mut current {
            current.lines(|_shown_by_others| Ok(()))?;
        }
        Ok(Self { container: container.clone(), current })
    }

    /// Shows what it writes until it has ended, or nobody reads it any more. Blocks.
    pub(super) fn run(self) -> Result<Reader> {
        let wanted = Wanted { since: None, until: None, timestamps: false };
        let mut out = Out { wanted, at_line_start: true };
        match go_on(&self.container, self.current, &mut out) {
            Err(error) if is_broken_pipe(&error) => Ok(Reader::Left),
            done => done.map(|()| Reader::Reads),
        }
    }
}

fn show(container: &Container, tail: Option<usize>, follow: bool, out: &mut Out) -> Result<()> {
    let path = container.log();
    // What is there now, oldest first; then what comes.
    let mut current = open_current(&path)?;
    let mut last = tail.map(Tail::of);
    let mut line = |line: Vec<u8>, out: &mut Out| -> Result<()> {
        match &mut last {
            None => out.line(&line),
            Some(last) => {
                last.push(line);
                Ok(())
            }
        }
    };
    for rotated in rotated(&path).with_context(|| format!("read {}", path.display()))? {
        let file = File::open(&rotated).with_context(|| format!("open {}", rotated.display()))?;
        let zipped = rotated.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        for text in BufReader::new(reader).split(b'\n') {
            line(text.with_context(|| format!("read {}", rotated.display()))?, out)?;
        }
    }
    if let Some(current) = &mut current {
        current.lines(|text| line(text, out))?;
    }
    for line in last.into_iter().flat_map(Tail::records) {
        out.line(&line)?;
    }
    if follow { go_on(container, current, out) } else { Ok(()) }
}

/// What comes behind what was read, until the container has ended.
fn go_on(container: &Container, mut current: Option<Current>, out: &mut Out) -> Result<()> {
    let path = container.log();
    loop {
        // Asked before the file is read, so what was written last is read after that.
        let up = container.dir().exists() && container.status().is_ok_and(|status| status.is_up());
        match &mut current {
            None => current = open_current(&path)?,
            Some(current) => {
                current.lines(|text| out.line(&text))?;
                if current.was_rotated(&path) {
                    let next = open_current(&path)?;
                    current.lines(|text| out.line(&text))?;
                    if let Some(next) = next {
                        *current = next;
                    }
                    continue;
                }
            }
        }
        if !up {
            return Ok(());
        }
        std::thread::sleep(LOOKS_EVERY);
    }
}

/// The log that is written now.
struct Current {
    reader: BufReader<File>,
    inode: u64,
    /// The beginning of a line whose end is still to come.
    begun: Vec<u8>,
}

fn open_current(path: &Path) -> Result<Option<Current>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => {
            let file = file.with_context(|| format!("open {}", path.display()))?;
            let inode = file.metadata()?.ino();
            Ok(Some(Current { reader: BufReader::new(file), inode, begun: Vec::new() }))
        }
    }
}

impl Current {
    /// All whole lines that are there.
    fn lines(&mut self, mut take: impl FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        loop {
            let read = self.reader.read_until(b'\n', &mut self.begun).context("read the log")?;
            if read == 0 || self.begun.last() != Some(&b'\n') {
                return Ok(());
            }
            self.begun.pop();
            take(std::mem::take(&mut self.begun))?;
        }
    }

    fn was_rotated(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|newest| newest.ino() != self.inode)
    }
}

/// Which records are shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
}

struct Out {
    wanted: Wanted,
    /// A time stands at the beginning of a line only, though a line may be several records.
    at_line_start: bool,
}

impl Out {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        let Some((stream, text)) = render(line, self.wanted, &mut self.at_line_start) else { return Ok(()) };
        let done = match stream {
            Stream::Stdout => io::stdout().lock().write_all(&text).and_then(|()| io::stdout().flush()),
            Stream::Stderr => io::stderr().lock().write_all(&text),
        };
        Ok(done?)
    }
}

/// What is shown of a line of the file; what is no record is not.
fn render(line: &[u8], wanted: Wanted, at_line_start: &mut bool) -> Option<(Stream, Vec<u8>)> {
    let record = parse(line)?;
    if wanted.since.is_some_and(|since| record.time < since) || wanted.until.is_some_and(|until| record.time > until) {
        return None;
    }
    let mut text = Vec::with_capacity(record.text.len() + 40);
    if wanted.timestamps && *at_line_start {
        text.extend_from_slice(format!("{:.9} ", record.time).as_bytes());
    }
    text.extend_from_slice(record.text);
    if !record.partial {
        text.push(b'\n');
    }
    *at_line_start = !record.partial;
    Some((record.stream, text))
}

/// A time, or how long ago.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).with_context(|| format!("{text} is no time"));
    }
    let ago = text.parse::<SignedDuration>().ok().or_else(|| {
        let span = text.parse::<Span>().ok()?;
        span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()
    });
    match ago.and_then(|ago| now.checked_sub(ago.abs()).ok()) {
        Some(time) => Ok(time),
        None => bail!("{text:?} is no time: write 2026-01-02T03:04:05Z, or how long ago as 10m or 1h30m"),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
            ("10m", "2026-01-02T11:50:00Z"),
            ("1h30m", "2026-01-02T10:30:00Z"),
            ("90s", "2026-01-02T11:58:30Z"),
            ("1d", "2026-01-01T12:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap(), expected.parse().unwrap(), "{text}");
        }
        for bad in ["", "yesterday", "10", "x10m"].into_iter().filter(|text| text.parse::<i64>().is_err()) {
            assert!(moment(bad, now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn records_are_shown_with_times_at_the_beginning_of_lines() {
        let mut start = true;
        let mut shown = |line: &str, timestamps| {
            let wanted = Wanted { since: Some(Timestamp::UNIX_EPOCH), until: None, timestamps };
            render(line.as_bytes(), wanted, &mut start).map(|(stream, text)| (stream, String::from_utf8(text).unwrap()))
        };
        let time = "2026-01-02T03:04:05.000000006Z";
        let line = |text: String, stream| Some((stream, text));
        assert_eq!(shown(&format!("{time} stdout F one"), false), line("one\n".into(), Stream::Stdout));
        assert_eq!(shown(&format!("{time} stderr P tw"), true), line(format!("{time} tw"), Stream::Stderr));
        assert_eq!(shown(&format!("{time} stderr F o"), true), line("o\n".into(), Stream::Stderr));
        assert_eq!(shown("1969-01-02T03:04:05Z stdout F old", true), None);
        assert_eq!(shown("no record", true), None);
    }
}
