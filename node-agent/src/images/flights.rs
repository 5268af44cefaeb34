//! Pulls under way: one for each reference and set of credentials, however many pods wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use samara_images::{Credential, Image, Puller, Reference};
use tokio::sync::watch;

/// Makes pulls.
pub(super) struct Flights {
    puller: Arc<Puller>,
    under_way: Mutex<HashMap<Key, Flight>>,
    changed: watch::Sender<()>,
}

/// Reference, and the credentials that it is pulled with: who has none must not ride with one who has.
type Key = (String, Vec<Credential>);
type Flight = Shared<BoxFuture<'static, Result<Pulled, Arc<str>>>>;

/// A finished pull.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    pub(super) image: Arc<Image>,
    /// Without the time that was waited.
    pub(super) took: Duration,
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl Flights {
    pub(super) fn new(puller: Puller) -> Self {
        Self { puller: Arc::new(puller), under_way: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Changes after each pull.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Pulls, or waits for the one who does. A pull for which nobody waits any more stops.
    pub(super) async fn pull(&self, reference: &Reference, credentials: Vec<Credential>) -> Result<Pulled, Arc<str>> {
        let key = (reference.to_string(), credentials.clone());
        let flight = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            // Finished ones, and those that everyone has left.
            under_way.retain(|_, flight| flight.peek().is_none() && flight.strong_count().unwrap_or(0) > 1);
            under_way.entry(key.clone()).or_insert_with(|| self.take_off(reference.clone(), credentials)).clone()
        };
        let result = flight.await;
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.changed.send_replace(());
        result
    }

    fn take_off(&self, reference: Reference, credentials: Vec<Credential>) -> Flight {
        let puller = self.puller.clone();
        async move {
            let begun = Instant::now();
            match puller.pull(&reference, &credentials, &()).await {
                Ok(image) => Ok(Pulled { image: Arc::new(image), took: begun.elapsed() }),
                Err(error) => Err(crate::images::text(&error).into()),
            }
        }
        .boxed()
        .shared()
    }
}
