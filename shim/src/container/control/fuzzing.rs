//! For the fuzz targets: the reader of messages. Not a part of the API.

use super::{Hello, MAX_MESSAGE, Message, Request, frame};

/// Bytes as they come: the first says in pieces of which length.
pub fn messages(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    all::<Request>(bytes, usize::from(*piece) + 1);
    all::<Message>(bytes, usize::from(*piece) + 1);
    all::<Hello>(bytes, usize::from(*piece) + 1);
}

fn all<T>(bytes: &[u8], piece: usize)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut received = Vec::new();
    for piece in bytes.chunks(piece) {
        received.extend_from_slice(piece);
        loop {
            match frame::decode::<T>(&mut received) {
                Ok(Some(message)) => {
                    let mut again = frame::encode(&message).expect("what was read can be written");
                    assert_eq!(frame::decode::<T>(&mut again).expect("read"), Some(message));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(received.len() < 4 + MAX_MESSAGE as usize, "no more is kept than one message");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Files in `fuzz/seeds`.
    fn seeds(target: &str) -> impl Iterator<Item = Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
        let seeds: Vec<_> = std::fs::read_dir(directory).expect("seeds").collect();
        assert!(!seeds.is_empty());
        seeds.into_iter().map(|seed| std::fs::read(seed.expect("seed").path()).expect("read"))
    }

    #[test]
    fn what_holds_of_any_input_holds_of_the_seeds() {
        seeds("front-and-container").for_each(|bytes| messages(&bytes));
    }
}
