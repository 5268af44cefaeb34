//! The guest's output on its way: from a fifo to whoever reads ours, and into the log.
//!
//! The fifo is read to its end whatever becomes of the two. A guest must not wait for a reader that went away, as `head`
//! does, nor for a disk that is full; and what one of the two cannot take is still the other's.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::fs::OFlags;
use tokio::task::JoinHandle;

use super::log::Log;

/// At once one record's text at most, as the CRI has it.
const PIECE: usize = 16 << 10;

/// What went wrong on the way, the first of each kind.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Whoever reads our output could not be given all of it.
    pub(super) shown: Option<io::Error>,
    /// The log lacks something.
    pub(super) logged: Option<io::Error>,
}

/// Begins to pass on what comes through a fifo. `unread`: called when nobody will ever see more of it, which is when its
/// reader went away and there is no log.
pub(super) fn pass_on(
    fifo: &Path,
    to: impl Write + Send + 'static,
    log: Option<(Log, &'static str)>,
    unread: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<io::Result<Passed>>> {
    let from = open(fifo).with_context(|| format!("open {}", fifo.display()))?;
    Ok(tokio::task::spawn_blocking(move || match log {
        Some((log, stream)) => drain(from, to, |text| log.write(Timestamp::now(), stream, text), || {}),
        None => drain(from, to, |_kept_nowhere| Ok(()), unread),
    }))
}

/// `left`: called when whoever reads `to` went away.
fn drain(
    mut from: impl Read,
    mut to: impl Write,
    mut log: impl FnMut(&[u8]) -> io::Result<()>,
    left: impl FnOnce(),
) -> io::Result<Passed> {
    let (mut passed, mut left) = (Passed::default(), Some(left));
    let mut buffer = vec![0; PIECE];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(passed);
        }
        let text = &buffer[..read];
        // A disk may have room again.
        if let Err(error) = log(text) {
            passed.logged.get_or_insert(error);
        }
        if passed.shown.is_some() {
            continue;
        }
        if let Err(error) = to.write_all(text).and_then(|()| to.flush()) {
            if error.kind() == io::ErrorKind::BrokenPipe
                && let Some(left) = left.take()
            {
                left();
            }
            passed.shown = Some(error);
        }
    }
}

/// Without waiting for a writer, and then with waiting for data.
fn open(fifo: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(fifo)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Takes so many pieces, and then fails.
    struct Pieces<'a> {
        taken: &'a RefCell<Vec<u8>>,
        left: usize,
        fails: io::ErrorKind,
    }

    impl Write for Pieces<'_> {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.left = self.left.checked_sub(1).ok_or(self.fails)?;
            self.taken.borrow_mut().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_is_read_and_each_side_gets_what_it_can_take() {
        let text: Vec<u8> = (0..5 * PIECE).map(|at| (at % 251) as u8).collect();
        let (gone, full) = (io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull);
        for (fails, shown, logged, leaves) in
            [(gone, 5, 5, 0), (gone, 2, 5, 1), (full, 2, 5, 0), (gone, 5, 2, 0), (gone, 2, 2, 1)]
        {
            let (out, log, left) = (RefCell::default(), RefCell::default(), Cell::new(0));
            let to = Pieces { taken: &out, left: shown, fails };
            let mut log_to = Pieces { taken: &log, left: logged, fails: full };
            let write = |text: &[u8]| log_to.write_all(text);
            let mut from = &text[..];
            let passed = drain(&mut from, to, write, || left.set(left.get() + 1)).unwrap();
            assert!(from.is_empty(), "a guest never waits");
            assert_eq!(out.take(), text[..shown * PIECE], "{fails} {shown} {logged}");
            assert_eq!(log.take(), text[..logged * PIECE], "{fails} {shown} {logged}");
            assert_eq!(left.get(), leaves);
            assert_eq!(passed.shown.map(|error| error.kind()), (shown < 5).then_some(fails));
            assert_eq!(passed.logged.map(|error| error.kind()), (logged < 5).then_some(full));
        }
    }
}
