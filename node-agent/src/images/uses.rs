//! Who is about to use an image: what was asked for a moment ago is not collected.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use samara_images::Digest;

/// So long after it was asked for, its container's bundle names the image.
const HOLD: SignedDuration = SignedDuration::from_mins(2);

/// The latest uses.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    asked: HashMap<Digest, Timestamp>,
    /// How many images were removed.
    removed: u64,
}

impl Uses {
    /// To be given to [`Uses::hold`] by who begins to look for an image.
    pub(super) fn removed(&self) -> u64 {
        self.lock().removed
    }

    /// The image is asked for. `false`: something was removed since the look began, so the image may be gone.
    pub(super) fn hold(&self, digest: &Digest, removed_before: u64, now: Timestamp) -> bool {
        let mut known = self.lock();
        known.asked.insert(digest.clone(), now);
        known.removed == removed_before
    }

    /// Whether it was asked for a moment ago.
    pub(super) fn is_held(&self, digest: &str, now: Timestamp) -> bool {
        let mut known = self.lock();
        known.asked.retain(|_, asked| now.duration_since(*asked) < HOLD);
        known.asked.keys().any(|held| held.as_str() == digest)
    }

    /// Removes an image unless somebody asked for it meanwhile. Who asks later looks again.
    pub(super) fn remove_unless_held<E>(
        &self,
        digest: &Digest,
        now: Timestamp,
        remove: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let mut known = self.lock();
        if known.asked.get(digest).is_some_and(|asked| now.duration_since(*asked) < HOLD) {
            return Ok(false);
        }
        known.removed += 1;
        remove()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_who_asks_too_late_looks_again() {
        let uses = Uses::default();
        let digest = Digest::of(b"image");
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let remove = |second| uses.remove_unless_held(&digest, at(second), || Ok::<_, ()>(true)).unwrap();
        let before = uses.removed();
        assert!(uses.hold(&digest, before, at(0)));
        assert!(uses.is_held(digest.as_str(), at(119)));
        assert!(!remove(119));
        assert!(uses.hold(&digest, before, at(0)));
        assert!(remove(120));
        assert!(!uses.hold(&digest, before, at(121)), "it may be gone");
        assert!(uses.hold(&digest, uses.removed(), at(121)));
        assert!(!uses.is_held("sha256:other", at(121)));
    }
}
