//! A message on the wire: length, then JSON.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MAX_MESSAGE;

/// Length and JSON in one piece.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = length(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Takes the first whole message out of what was received so far; `None` if there is none yet.
pub(super) fn decode<T: DeserializeOwned>(received: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(header) = received.first_chunk::<4>() else {
        return Ok(None);
    };
    let end = 4 + length(u32::from_le_bytes(*header) as usize)? as usize;
    if received.len() < end {
        return Ok(None);
    }
    let message = serde_json::from_slice(&received[4..end])?;
    received.drain(..end);
    Ok(Some(message))
}

fn length(length: usize) -> io::Result<u32> {
    match u32::try_from(length) {
        Ok(length) if length <= MAX_MESSAGE => Ok(length),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes, at most {MAX_MESSAGE} are allowed"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Request};
    use super::*;

    #[test]
    fn a_message_in_pieces_is_decoded_when_its_last_byte_is_there() {
        let request = Request { id: 7, command: Command::Stop { signal: 15, grace_millis: 30_000 } };
        let bytes = encode(&request).unwrap();
        let mut received = Vec::new();
        for byte in &bytes[..bytes.len() - 1] {
            received.push(*byte);
            assert_eq!(decode::<Request>(&mut received).unwrap(), None);
        }
        received.push(bytes[bytes.len() - 1]);
        received.extend_from_slice(&bytes[..3]);
        assert_eq!(decode(&mut received).unwrap(), Some(request));
        assert_eq!(received, bytes[..3]);
    }

    #[test]
    fn a_hostile_length_is_refused_before_anything_is_kept_for_it() {
        let mut received = u32::MAX.to_le_bytes().to_vec();
        assert!(decode::<Request>(&mut received).is_err());
    }

    #[test]
    fn an_unknown_command_is_refused() {
        let mut received = encode(&serde_json::json!({"id": 1, "command": {"format": {}}})).unwrap();
        assert!(decode::<Request>(&mut received).is_err());
    }
}
