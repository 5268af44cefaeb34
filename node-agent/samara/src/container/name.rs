//! Names of containers.

use rand::RngExt as _;

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be a name: letters, digits, '_', '.' and '-', beginning with a letter or digit, at most 128")]
pub(crate) struct InvalidName(String);

/// Docker's rule for names of containers and volumes. It also keeps a name inside its directory.
pub(crate) fn check_name(name: &str) -> Result<(), InvalidName> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let good = first && name.len() <= 128 && name.bytes().all(inner);
    if good { Ok(()) } else { Err(InvalidName(name.to_owned())) }
}

const MOODS: [&str; 24] = [
    "amber", "brisk", "calm", "dusty", "eager", "fleet", "gentle", "humble", "ivory", "jolly", "keen", "lucid",
    "mellow", "nimble", "olive", "proud", "quiet", "rapid", "sunny", "tidy", "upbeat", "vivid", "warm", "zesty",
];
const THINGS: [&str; 24] = [
    "acorn", "badger", "comet", "dune", "ember", "falcon", "glacier", "heron", "inlet", "juniper", "kestrel", "lagoon",
    "maple", "nebula", "otter", "pebble", "quartz", "raven", "samara", "thistle", "upland", "violet", "willow",
    "yarrow",
];

/// For a container that was given none: easy to type, and hardly ever taken.
pub(crate) fn random_name() -> String {
    let mut random = rand::rng();
    let mut one_of = |words: &[&'static str; 24]| words[random.random_range(0..words.len())];
    let (mood, thing) = (one_of(&MOODS), one_of(&THINGS));
    format!("{mood}_{thing}_{:02}", random.random_range(0..100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_way_out_of_a_directory() {
        for good in ["web", "a", "web-1.x_Y", &"f".repeat(128)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\0", "../x", &"f".repeat(129)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn random_names_are_names() {
        for _ in 0..100 {
            assert_eq!(check_name(&random_name()), Ok(()));
        }
    }
}
