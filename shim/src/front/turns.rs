//! One at a time for each key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// Those who work for a key, and wait to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>>);

impl Turns {
    /// Waits for the turn, which ends when what is given is dropped.
    pub(crate) async fn wait(&self, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(key.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn two_for_one_key_are_one_after_the_other_and_another_key_is_free() {
        let turns = Turns::default();
        let first = turns.wait("a").await;
        let second = turns.wait("a");
        let mut second = std::pin::pin!(second);
        assert!(second.as_mut().now_or_never().is_none());
        let other = turns.wait("b").now_or_never().expect("free");
        drop(first);
        let second = second.now_or_never().expect("its turn");
        drop((second, other));
        drop(turns.wait("c").await);
        assert_eq!(turns.0.lock().expect("lock").len(), 1, "who is done is forgotten");
    }
}
