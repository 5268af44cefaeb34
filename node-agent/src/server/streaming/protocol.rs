//! Frames: one byte says the channel, the rest is its data (k8s: `apimachinery/pkg/util/remotecommand`,
//! `apiserver/pkg/util/wsstream`).
//!
//! | subprotocol | data | at the end | end of input |
//! |---|---|---|---|
//! | none, `channel.k8s.io`, `base64.channel.k8s.io` | raw, base64 | words, on failure only | cannot be told |
//! | `v4.channel.k8s.io`, `v4.base64.channel.k8s.io` | raw, base64 | a `Status` | cannot be told |
//! | `v5.channel.k8s.io` | raw | a `Status` | channel 255 with the channel's number |

use axum::extract::ws::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

/// What client and node agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocol {
    version: Version,
    encoding: Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V4,
    V5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Raw,
    Base64,
}

/// Where a frame of ours belongs; the client's are 0, its input, and 4, its terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout = 1,
    Stderr = 2,
    Error = 3,
}

const STDIN: u8 = 0;
const RESIZE: u8 = 4;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Stdin(Bytes),
    StdinEnded,
    Resize(Size),
    /// Nothing of consequence: an empty frame, or the end of a channel that only we write.
    Nothing,
}

/// A terminal's, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    pub(super) width: u16,
    pub(super) height: u16,
}

/// The client breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame for channel {0}, which is not the client's to write")]
    Channel(u8),
    #[error("a frame that is not base64")]
    Base64,
    #[error("a terminal size that is not {{\"Width\":..,\"Height\":..}}")]
    Size,
}

const CLOSE: u8 = 255;

const KNOWN: [(&str, Protocol); 5] = [
    ("v5.channel.k8s.io", Protocol { version: Version::V5, encoding: Encoding::Raw }),
    ("v4.channel.k8s.io", Protocol { version: Version::V4, encoding: Encoding::Raw }),
    ("v4.base64.channel.k8s.io", Protocol { version: Version::V4, encoding: Encoding::Base64 }),
    ("channel.k8s.io", Protocol { version: Version::V1, encoding: Encoding::Raw }),
    ("base64.channel.k8s.io", Protocol { version: Version::V1, encoding: Encoding::Base64 }),
];

impl Protocol {
    /// The first that the client asks for and we know; the oldest for one that asks for none.
    pub(super) fn choose(asked: &[String]) -> Option<(Option<&'static str>, Self)> {
        // A list may come in one header or in several.
        let mut asked =
            asked.iter().flat_map(|header| header.split(',')).map(str::trim).filter(|name| !name.is_empty()).peekable();
        if asked.peek().is_none() {
            return Some((None, Self { version: Version::V1, encoding: Encoding::Raw }));
        }
        asked
            .find_map(|name| KNOWN.iter().find(|(known, _)| *known == name))
            .map(|(name, protocol)| (Some(*name), *protocol))
    }

    /// Whether the end is told as a `Status`, whatever it is.
    pub(super) fn tells_status(self) -> bool {
        match self.version {
            Version::V1 => false,
            Version::V4 | Version::V5 => true,
        }
    }

    /// To be sent.
    pub(super) fn frame(self, channel: Channel, data: &[u8]) -> Message {
        let channel = channel as u8;
        match self.encoding {
            Encoding::Raw => Message::Binary([&[channel], data].concat().into()),
            Encoding::Base64 => Message::Text(format!("{channel}{}", STANDARD.encode(data)).into()),
        }
    }

    /// What was received.
    pub(super) fn read(self, frame: Bytes) -> Result<Said, FrameError> {
        let Some(&first) = frame.first() else { return Ok(Said::Nothing) };
        let data = frame.slice(1..);
        if self.version == Version::V5 && first == CLOSE {
            return Ok(if data.first() == Some(&STDIN) { Said::StdinEnded } else { Said::Nothing });
        }
        let (channel, data) = match self.encoding {
            Encoding::Raw => (first, data),
            Encoding::Base64 => {
                let decoded = STANDARD.decode(&data).map_err(|_wrong| FrameError::Base64)?;
                (first.wrapping_sub(b'0'), decoded.into())
            }
        };
        match channel {
            _ if data.is_empty() => Ok(Said::Nothing),
            STDIN => Ok(Said::Stdin(data)),
            RESIZE => serde_json::from_slice(&data).map(Said::Resize).map_err(|_wrong| FrameError::Size),
            other => Err(FrameError::Channel(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(name: &str) -> Protocol {
        Protocol::choose(&[name.to_owned()]).expect("known").1
    }

    #[test]
    fn the_clients_order_decides_and_strangers_are_passed_over() {
        let choose = |asked: &[&str]| {
            let asked: Vec<_> = asked.iter().map(|&name| name.to_owned()).collect();
            Protocol::choose(&asked).map(|(name, _)| name)
        };
        let table: [(&[&str], _); 6] = [
            (&["v5.channel.k8s.io"], Some(Some("v5.channel.k8s.io"))),
            (&["v4.channel.k8s.io, v5.channel.k8s.io"], Some(Some("v4.channel.k8s.io"))),
            (&["v9.channel.k8s.io", "base64.channel.k8s.io"], Some(Some("base64.channel.k8s.io"))),
            (&[], Some(None)),
            (&["", " , "], Some(None)),
            (&["SPDY/3.1+portforward.k8s.io"], None),
        ];
        for (asked, expected) in table {
            assert_eq!(choose(asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn what_a_client_says_is_read() {
        let size = Said::Resize(Size { width: 80, height: 24 });
        let stdin = |text: &'static str| Said::Stdin(text.into());
        let table: [(&str, &[u8], Result<Said, FrameError>); 16] = [
            ("v5.channel.k8s.io", b"\0hi", Ok(stdin("hi"))),
            ("v5.channel.k8s.io", b"\0", Ok(Said::Nothing)),
            ("v5.channel.k8s.io", b"", Ok(Said::Nothing)),
            ("v5.channel.k8s.io", b"\xff\0", Ok(Said::StdinEnded)),
            ("v5.channel.k8s.io", b"\xff\x01", Ok(Said::Nothing)),
            ("v5.channel.k8s.io", b"\xff", Ok(Said::Nothing)),
            ("v4.channel.k8s.io", b"\xff\0", Err(FrameError::Channel(255))),
            ("v4.channel.k8s.io", b"\x04{\"Width\":80,\"Height\":24}", Ok(size.clone())),
            ("v4.channel.k8s.io", b"\x04{\"Width\":-1}", Err(FrameError::Size)),
            ("v4.channel.k8s.io", b"\x01mine", Err(FrameError::Channel(1))),
            ("v4.channel.k8s.io", b"\x02", Ok(Said::Nothing)),
            ("base64.channel.k8s.io", b"0aGk=", Ok(stdin("hi"))),
            ("base64.channel.k8s.io", b"0a", Err(FrameError::Base64)),
            ("base64.channel.k8s.io", b"0", Ok(Said::Nothing)),
            ("v4.base64.channel.k8s.io", b"4eyJXaWR0aCI6ODAsIkhlaWdodCI6MjR9", Ok(size)),
            ("channel.k8s.io", b"0hi", Err(FrameError::Channel(b'0'))),
        ];
        for (name, frame, expected) in table {
            assert_eq!(protocol(name).read(Bytes::from_static(frame)), expected, "{name}: {frame:?}");
        }
    }

    #[test]
    fn what_we_say_is_framed() {
        assert_eq!(
            protocol("v5.channel.k8s.io").frame(Channel::Stdout, b"hi"),
            Message::Binary(Bytes::from_static(b"\x01hi"))
        );
        assert_eq!(protocol("channel.k8s.io").frame(Channel::Error, b""), Message::Binary(Bytes::from_static(b"\x03")));
        assert_eq!(protocol("base64.channel.k8s.io").frame(Channel::Stderr, b"hi"), Message::Text("2aGk=".into()));
    }

    proptest::proptest! {
        #[test]
        fn no_frame_breaks_the_reader(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64), known in 0..KNOWN.len()) {
            let _whatever = KNOWN[known].1.read(bytes.into());
        }
    }
}
