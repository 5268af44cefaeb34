//! Answers remembered for a while, in bounded space: whoever sends a million tokens costs no more than a thousand.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Entries kept at most.
const CAPACITY: usize = 4096;

/// Key to answer.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::default() }
    }

    /// The answer, unless it is too old.
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// Keeps an answer. A full memory forgets what is too old, and if that is not enough, everything.
    pub(super) fn keep(&self, key: K, value: V, ttl: Duration, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.retain(|_, (_, until)| now < *until);
        }
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert(key, (value, now + ttl));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_until_its_time_is_over() {
        let (memory, start, ttl) = (Memory::new(), Instant::now(), Duration::from_secs(30));
        memory.keep("who", 1, ttl, start);
        assert_eq!(memory.get(&"who", start + Duration::from_secs(29)), Some(1));
        assert_eq!(memory.get(&"who", start + ttl), None);
        assert_eq!(memory.get(&"else", start), None);
    }

    #[test]
    fn a_flood_of_questions_does_not_fill_the_machine() {
        let (memory, now) = (Memory::new(), Instant::now());
        for question in 0..10 * CAPACITY {
            memory.keep(question, (), Duration::from_secs(60), now);
        }
        let kept = memory.entries.lock().expect("not poisoned").len();
        assert!(kept <= CAPACITY, "{kept}");
        assert_eq!(memory.get(&(10 * CAPACITY - 1), now), Some(()), "the newest is kept");
    }
}
