//! Frames of SPDY/3.1, as far as port-forward has them (draft "SPDY Protocol", 2.2 and 2.6). Pure.
//!
//! ```text
//! control  1 | 3 (15 bits) | type (16)      flags (8) | length (24)      payload
//! data     0 | stream (31)                  flags (8) | length (24)      payload
//! ```

use bytes::{Buf as _, Bytes, BytesMut};

/// The last of its stream in this direction.
const FIN: u8 = 1;
const VERSION: u16 = 3;
/// Clients send 32 KiB at a time.
const LONGEST: usize = 1 << 20;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// It opens a stream; `block` holds its headers.
    Open {
        stream: u32,
        block: Bytes,
    },
    /// Further headers, of no consequence but for the packing of those that follow.
    Headers {
        block: Bytes,
    },
    Data {
        stream: u32,
        data: Bytes,
        last: bool,
    },
    /// It wants to hear no more of a stream.
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, windows: nothing here depends on them.
    Other,
}

/// The client does not speak SPDY/3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of version {0}, not 3")]
    Version(u16),
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    #[error("a frame of type {0} that is too short")]
    TooShort(u16),
}

/// Takes pieces as they come and gives whole frames.
#[derive(Debug, Default)]
pub(super) struct Decoder(BytesMut);

impl Decoder {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next frame; `None` until more of it has come.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, _)) = self.0.split_first_chunk::<8>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > LONGEST {
            return Err(FrameError::TooLong(length));
        }
        let control = first >> 31 == 1;
        let version = (first >> 16 & 0x7fff) as u16;
        if control && version != VERSION {
            return Err(FrameError::Version(version));
        }
        if self.0.len() < 8 + length {
            return Ok(None);
        }
        let payload = self.0.split_to(8 + length).freeze().slice(8..);
        if !control {
            return Ok(Some(Frame::Data { stream: first, data: payload, last: flags & FIN != 0 }));
        }
        read_control((first & 0xffff) as u16, payload).map(Some)
    }
}

fn read_control(kind: u16, mut payload: Bytes) -> Result<Frame, FrameError> {
    let least = match kind {
        SYN_STREAM => 10,
        HEADERS | PING => 4,
        RST_STREAM => 8,
        _ => 0,
    };
    if payload.len() < least {
        return Err(FrameError::TooShort(kind));
    }
    Ok(match kind {
        SYN_STREAM => {
            let stream = payload.get_u32() & 0x7fff_ffff;
            // What it goes with, and how urgent it is.
            payload.advance(6);
            Frame::Open { stream, block: payload }
        }
        HEADERS => Frame::Headers { block: payload.slice(4..) },
        RST_STREAM => Frame::Reset { stream: payload.get_u32() & 0x7fff_ffff },
        PING => Frame::Ping { id: payload.get_u32() },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    })
}

/// The stream is taken; `block` holds our headers.
pub(super) fn reply(stream: u32, block: &[u8]) -> Bytes {
    control(SYN_REPLY, &[&stream.to_be_bytes(), block])
}

/// The stream is refused (`REFUSED_STREAM`).
pub(super) fn refuse(stream: u32) -> Bytes {
    control(RST_STREAM, &[&stream.to_be_bytes(), &3_u32.to_be_bytes()])
}

/// A ping comes back as it is.
pub(super) fn pong(id: u32) -> Bytes {
    control(PING, &[&id.to_be_bytes()])
}

/// Data of a stream; with `last`, its end in our direction.
pub(super) fn data(stream: u32, data: &[u8], last: bool) -> Bytes {
    frame(stream, if last { FIN } else { 0 }, &[data])
}

fn control(kind: u16, payload: &[&[u8]]) -> Bytes {
    frame(u32::from(0x8000 | VERSION) << 16 | u32::from(kind), 0, payload)
}

fn frame(first: u32, flags: u8, payload: &[&[u8]]) -> Bytes {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    debug_assert!(length <= LONGEST, "nothing so long is read at once");
    let second = u32::from(flags) << 24 | u32::try_from(length).unwrap_or(0) & 0x00ff_ffff;
    [&first.to_be_bytes(), &second.to_be_bytes()]
        .into_iter()
        .map(<[u8; 4]>::as_slice)
        .chain(payload.iter().copied())
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client opens a stream.
    pub(in super::super) fn open(stream: u32, block: &[u8]) -> Bytes {
        control(SYN_STREAM, &[&stream.to_be_bytes(), &[0; 6], block])
    }

    /// As a client ends one.
    pub(in super::super) fn reset(stream: u32) -> Bytes {
        control(RST_STREAM, &[&stream.to_be_bytes(), &5_u32.to_be_bytes()])
    }

    fn all(bytes: &[u8], size: usize) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let sent = [
            open(1, b"block"),
            data(1, b"hello", false),
            data(1, b"", true),
            pong(7),
            reset(1),
            control(HEADERS, &[&1_u32.to_be_bytes(), b"more"]),
            control(4, &[&[0; 4]]),
            control(GOAWAY, &[&[0; 8]]),
        ]
        .concat();
        let want = [
            Frame::Open { stream: 1, block: "block".into() },
            Frame::Data { stream: 1, data: "hello".into(), last: false },
            Frame::Data { stream: 1, data: Bytes::new(), last: true },
            Frame::Ping { id: 7 },
            Frame::Reset { stream: 1 },
            Frame::Headers { block: "more".into() },
            Frame::Other,
            Frame::GoAway,
        ];
        for size in [1, 7, 1000] {
            assert_eq!(all(&sent, size).unwrap(), want, "{size} bytes at a time");
        }
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let table: [(&[u8], FrameError); 4] = [
            (b"\x80\x02\0\x01\0\0\0\x0a", FrameError::Version(2)),
            (b"\0\0\0\x01\0\xff\xff\xff", FrameError::TooLong(0x00ff_ffff)),
            (b"\x80\x03\0\x01\0\0\0\x02hi", FrameError::TooShort(SYN_STREAM)),
            (b"GET / HTTP/1.1\r\n\r\n", FrameError::TooLong(0x20_4854)),
        ];
        for (bytes, want) in table {
            assert_eq!(all(bytes, 1000), Err(want), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..256), size in 1..64_usize) {
            let _whatever = all(&bytes, size);
        }
    }
}
