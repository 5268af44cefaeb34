//! What a plugin said before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::super::Keyring;
use super::protocol::KeyType;
use crate::keyed::Keyed;
use crate::reference::Reference;

/// A node has no more registries and images with plugins at one time.
const MOST: usize = 1024;

/// One plugin's answers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: Mutex<HashMap<(String, Scope), (Keyring, Instant)>>,
    turns: Keyed<(String, String)>,
}

/// What an answer is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Image(String),
    Registry(String),
    Global,
}

impl Scope {
    pub(super) fn of(key: KeyType, image: &Reference) -> Self {
        match key {
            KeyType::Image => Self::Image(image.name()),
            KeyType::Registry => Self::Registry(image.registry().to_owned()),
            KeyType::Global => Self::Global,
        }
    }
}

impl Cache {
    /// The plugin is asked the same by one after the other. Who wants another image does not wait: a plugin may take its time.
    pub(super) async fn turn(&self, identity: &str, image: &Reference) -> tokio::sync::OwnedMutexGuard<()> {
        self.turns.lock(&(identity.to_owned(), image.name())).await
    }

    /// What is still good, the most particular first.
    pub(super) fn get(&self, identity: &str, image: &Reference, now: Instant) -> Option<Keyring> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        [KeyType::Image, KeyType::Registry, KeyType::Global].into_iter().find_map(|key| {
            let (keys, end) = answers.get(&(identity.to_owned(), Scope::of(key, image)))?;
            (*end > now).then(|| keys.clone())
        })
    }

    pub(super) fn put(&self, identity: String, scope: Scope, keys: Keyring, end: Instant) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST {
            let now = Instant::now();
            answers.retain(|_, (_, end)| *end > now);
        }
        if answers.len() < MOST {
            answers.insert((identity, scope), (keys, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::Credential;

    #[test]
    fn an_answer_is_good_for_what_it_says_until_it_ends() {
        let image = |name: &str| Reference::parse(name).unwrap();
        let keys = |user: &str| {
            let mut keys = Keyring::default();
            keys.insert("r.test", Credential::Basic { username: user.into(), password: String::new() });
            keys
        };
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let cache = Cache::default();
        cache.put("me".into(), Scope::Image("r.test/a".into()), keys("image"), later(10));
        cache.put("me".into(), Scope::Registry("r.test".into()), keys("registry"), later(20));
        cache.put("me".into(), Scope::Global, keys("global"), later(30));
        for (who, name, second, expected) in [
            ("me", "r.test/a:1", 1, Some("image")),
            ("me", "r.test/a:2", 11, Some("registry")),
            ("me", "r.test/b", 1, Some("registry")),
            ("me", "r.test/b", 21, Some("global")),
            ("me", "other.test/b", 1, Some("global")),
            ("me", "r.test/a", 31, None),
            ("you", "r.test/a", 1, None),
        ] {
            assert_eq!(cache.get(who, &image(name), later(second)), expected.map(keys), "{who} {name} {second}");
        }
    }
}
