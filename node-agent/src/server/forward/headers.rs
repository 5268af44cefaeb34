//! Header blocks of SPDY/3.1: names and values, compressed by zlib with a dictionary that both ends know, in one stream for
//! all blocks of a connection.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Of deflate: how far back a reference may reach.
const WINDOW: usize = 32 << 10;
/// A block has three short headers; what is longer than this is not one of ours.
const LONGEST: usize = 16 << 10;
/// Adler-32 of [`DICTIONARY`], by which a zlib stream names it.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

/// Words of the dictionary (SPDY/3, 2.6.10.1): each stands behind its length.
const WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|\
    allow|authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|\
    content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|\
    if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
    proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|\
    user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|\
    keep-alive|origin";
/// And what stands behind them.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let word = |word: &str| [&u32::try_from(word.len()).unwrap_or(0).to_be_bytes(), word.as_bytes()].concat();
    WORDS.split('|').flat_map(word).chain(TAIL.bytes()).collect()
});

/// The client's headers are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("a header block that is not compressed as SPDY/3.1 does it")]
    Compression,
    #[error("a header block that is too long")]
    TooLong,
    #[error("a header block that ends in the middle of a header")]
    Cut,
}

/// Names in lower case.
pub(super) type Headers = BTreeMap<String, String>;

/// Reads the blocks of one connection, in order: each builds on those before it.
pub(super) struct Reader {
    inflate: Box<DecompressorOxide>,
    /// What was unpacked last, and the place for the next byte.
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { inflate: Box::default(), window: vec![0; WINDOW].into_boxed_slice(), at: 0, begun: false }
    }

    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let block = if std::mem::replace(&mut self.begun, true) { block } else { self.begin(block)? };
        parse(&self.unpack(block)?)
    }

    /// The zlib header, behind which the packed bytes begin.
    fn begin<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], HeaderError> {
        let [method, flags, rest @ ..] = block else { return Err(HeaderError::Compression) };
        let sound = method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0;
        if !sound {
            return Err(HeaderError::Compression);
        }
        if flags & 0x20 == 0 {
            return Ok(rest);
        }
        let (id, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Compression)?;
        if u32::from_be_bytes(*id) != DICTIONARY_ID {
            return Err(HeaderError::Compression);
        }
        // As if it had been unpacked before.
        self.window[..DICTIONARY.len()].copy_from_slice(&DICTIONARY);
        self.at = DICTIONARY.len();
        Ok(rest)
    }

    fn unpack(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut unpacked = Vec::new();
        loop {
            let (status, taken, given) =
                decompress(&mut self.inflate, packed, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            unpacked.extend_from_slice(&self.window[self.at..self.at + given]);
            packed = &packed[taken..];
            self.at = (self.at + given) % WINDOW;
            if unpacked.len() > LONGEST {
                return Err(HeaderError::TooLong);
            }
            if status == TINFLStatus::NeedsMoreInput && packed.is_empty() {
                return Ok(unpacked);
            }
            if status != TINFLStatus::HasMoreOutput {
                return Err(HeaderError::Compression);
            }
        }
    }
}

/// A count, and then each name and value behind its length.
fn parse(mut bytes: &[u8]) -> Result<Headers, HeaderError> {
    let mut headers = Headers::new();
    for _ in 0..number(&mut bytes)? {
        let name = text(&mut bytes)?;
        headers.insert(name, text(&mut bytes)?);
    }
    if bytes.is_empty() { Ok(headers) } else { Err(HeaderError::Cut) }
}

fn number(bytes: &mut &[u8]) -> Result<usize, HeaderError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(HeaderError::Cut)?;
    *bytes = rest;
    usize::try_from(u32::from_be_bytes(*number)).map_err(|_| HeaderError::TooLong)
}

fn text(bytes: &mut &[u8]) -> Result<String, HeaderError> {
    let length = number(bytes)?;
    let (text, rest) = bytes.split_at_checked(length).ok_or(HeaderError::Cut)?;
    *bytes = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// A block without a header, as the `nth` of ours: stored, not packed, which needs no state. The first begins the stream.
/// Each ends as zlib's flush does, with nothing stored: Go's reader gives what it has read no sooner.
pub(super) fn empty(nth: usize) -> &'static [u8] {
    const BLOCKS: &[u8] = &[0x78, 0x01, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    if nth == 0 { BLOCKS } else { &BLOCKS[2..] }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client sends it that stores what it could pack.
    pub(in super::super) fn stored(headers: &[(&str, &str)], first: bool) -> Vec<u8> {
        let mut bytes = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        let length = u16::try_from(bytes.len()).unwrap();
        let head = [&[0_u8][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
        [if first { &[0x78, 0x01][..] } else { &[] }, &head, &bytes].concat()
    }

    #[test]
    fn the_dictionary_is_the_one_that_clients_mean() {
        assert_eq!(DICTIONARY.len(), 1423);
        let (a, b) = DICTIONARY.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!(b << 16 | a, DICTIONARY_ID);
    }

    /// Made by zlib with the dictionary and flushed after each block: port 8080, request 0, first the stream for errors and then
    /// the one for data.
    const PACKED: [&str; 2] = [
        "78f9e3c6a7c202253a48f95b044eea16061606409ab308125f99a074cc68004e892545a989b9d0c2863515141500000000ffff",
        "225333a8a44a04000000ffff",
    ];

    #[test]
    fn blocks_that_are_packed_with_the_dictionary_are_read_one_after_the_other() {
        let mut reader = Reader::new();
        for (block, kind) in PACKED.iter().zip(["error", "data"]) {
            let headers = reader.read(&hex::decode(block).unwrap()).unwrap();
            let want = [("port", "8080"), ("requestid", "0"), ("streamtype", kind)];
            assert_eq!(headers, want.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        }
    }

    #[test]
    fn what_is_no_header_block_is_refused() {
        let read = |block: &[u8]| Reader::new().read(block).unwrap_err();
        let mut cut = stored(&[("a", "b")], true);
        cut[10] = 9;
        let long = "x".repeat(LONGEST);
        let table: [(&[u8], HeaderError); 6] = [
            (b"", HeaderError::Compression),
            (b"\x78", HeaderError::Compression),
            (b"GET / HTTP/1.1", HeaderError::Compression),
            (b"\x78\xbb\0\0\0\0", HeaderError::Compression),
            (&cut, HeaderError::Cut),
            (&stored(&[("a", &long)], true), HeaderError::TooLong),
        ];
        for (block, want) in table {
            assert_eq!(read(block), want, "{block:?}");
        }
    }

    #[test]
    fn our_own_blocks_are_read_as_nothing() {
        let mut reader = Reader::new();
        for nth in 0..3 {
            assert_eq!(reader.read(empty(nth)).unwrap(), Headers::new());
        }
    }

    proptest! {
        #[test]
        fn no_block_breaks_the_reader(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..4)) {
            let mut reader = Reader::new();
            for mut block in blocks {
                block.splice(0..0, if reader.begun { vec![] } else { vec![0x78, 0x01] });
                let _whatever = reader.read(&block);
            }
        }
    }
}
