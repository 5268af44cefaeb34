//! A layer's bytes on their way to the tar reader: decompressed by what they are, hashed, and bounded between entries.

use std::cell::{Cell, RefCell};
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::UnpackError;
use crate::digest::{Digest, Hasher};

/// The tar reader holds long names and extended headers in memory; real ones are a few KiB.
pub(super) const LONGEST_HEADER: u64 = 1 << 20;

/// zstd's own default for what a reader should accept: a window of 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The uncompressed tar. Shared by reference between the tar reader and who bounds it.
pub(crate) struct Input {
    source: RefCell<Box<dyn Read>>,
    hasher: RefCell<Hasher>,
    /// How much may still be read before the next entry must have begun.
    allowance: Cell<u64>,
    /// How much may still be read at all.
    left: Cell<u64>,
    failure: Cell<Option<Failure>>,
    cancelled: Arc<AtomicBool>,
}

#[derive(Clone, Copy)]
enum Failure {
    HeaderTooLong,
    TooLong,
    Cancelled,
}

impl Input {
    pub(crate) fn new(
        packed: impl Read + 'static,
        hasher: Hasher,
        most: u64,
        cancelled: Arc<AtomicBool>,
    ) -> Result<Self, UnpackError> {
        let source = decompress(packed).map_err(UnpackError::Archive)?;
        Ok(Self {
            source: RefCell::new(source),
            hasher: RefCell::new(hasher),
            allowance: Cell::new(LONGEST_HEADER),
            left: Cell::new(most),
            failure: Cell::new(None),
            cancelled,
        })
    }

    /// Call before the tar reader looks for the next entry.
    pub(crate) fn expect_header(&self) {
        self.allowance.set(LONGEST_HEADER);
    }

    /// Call before an entry's content is read, which has its own bound.
    pub(crate) fn expect_content(&self) {
        self.allowance.set(u64::MAX);
    }

    /// Gives the error a reading had its true name: the tar reader passes on only an `io::Error`.
    pub(crate) fn explain(&self, error: io::Error) -> UnpackError {
        match self.failure.get() {
            Some(Failure::HeaderTooLong) => UnpackError::HeaderTooLong,
            Some(Failure::TooLong) => UnpackError::TooLong,
            Some(Failure::Cancelled) => UnpackError::Cancelled,
            None => UnpackError::Archive(error),
        }
    }

    /// Reads what follows the archive's end mark, which belongs to the digest too.
    pub(super) fn finish(&mut self) -> Result<Digest, UnpackError> {
        self.expect_content();
        let copied = io::copy(&mut &*self, &mut io::sink());
        copied.map_err(|error| self.explain(error))?;
        Ok(self.hasher.borrow().clone().finish())
    }
}

impl Read for &Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fail = |failure, text| {
            self.failure.set(Some(failure));
            Err(io::Error::other(text))
        };
        if self.cancelled.load(Ordering::Relaxed) {
            return fail(Failure::Cancelled, "cancelled");
        }
        let allowance = self.allowance.get();
        if allowance == 0 && !buffer.is_empty() {
            return fail(Failure::HeaderTooLong, "header too long");
        }
        let length = buffer.len().min(usize::try_from(allowance).unwrap_or(usize::MAX));
        let count = self.source.borrow_mut().read(&mut buffer[..length])?;
        self.hasher.borrow_mut().update(&buffer[..count]);
        let Some(left) = self.left.get().checked_sub(count as u64) else {
            return fail(Failure::TooLong, "too long");
        };
        self.left.set(left);
        if allowance != u64::MAX {
            self.allowance.set(allowance - count as u64);
        }
        Ok(count)
    }
}

/// By the first bytes, as docker does it; media types are wrong too often.
fn decompress(mut source: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut start = Vec::new();
    source.by_ref().take(4).read_to_end(&mut start)?;
    let packing: [u8; 4] = start.as_slice().try_into().unwrap_or_default();
    let layer = BufReader::new(io::Cursor::new(start).chain(source));
    Ok(match packing {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(layer))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(layer)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(BufReader::new(decoder))
        }
        _ => Box::new(layer),
    })
}
