//! Pulls under way: one for each reference and set of credentials, however many pods wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use samara_images::{Credential, Image, Puller, Reference, Retry};
use tokio::sync::{Semaphore, watch};

use crate::pace::{Pace, Rate};

/// How many pulls there may be. Default: as many as are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullLimits {
    /// `registryPullQPS` and `registryBurst`: one that comes sooner is refused, and tried again after the back-off.
    pub rate: Option<Rate>,
    /// `serializeImagePulls` and `maxParallelImagePulls`: further ones wait.
    pub parallel: Option<usize>,
}

/// As the kubelet says it.
const TOO_OFTEN: &str = "pull QPS exceeded";

/// Makes pulls.
pub(super) struct Flights {
    puller: Arc<Puller>,
    pace: Mutex<Pace>,
    places: Arc<Semaphore>,
    /// Held by those who wait for them alone: the last one who leaves ends the pull, and with it its place and its claims.
    under_way: Mutex<HashMap<Key, WeakFlight>>,
    changed: watch::Sender<()>,
}

/// Reference, and the credentials that it is pulled with: who has none must not ride with one who has.
type Key = (String, Vec<Credential>);
type Flight = Shared<BoxFuture<'static, Result<Pulled, Failed>>>;
type WeakFlight = WeakShared<BoxFuture<'static, Result<Pulled, Failed>>>;

/// A finished pull.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    pub(super) image: Arc<Image>,
    /// Place of the credential that the registry took; `None` if none was shown.
    pub(super) credential: Option<usize>,
    /// Without the time that was waited.
    pub(super) took: Duration,
}

/// A pull that failed.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) message: Arc<str>,
    pub(super) retry: Retry,
}

impl Failed {
    fn ours(message: &str) -> Self {
        Self { message: message.into(), retry: Retry::Later(None) }
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl Flights {
    pub(super) fn new(puller: Puller, limits: PullLimits) -> Self {
        let places = limits.parallel.map_or(Semaphore::MAX_PERMITS, |most| most.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            puller: Arc::new(puller),
            pace: Mutex::new(Pace::new(limits.rate, Instant::now().into())),
            places: Arc::new(Semaphore::new(places)),
            under_way: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Changes after each pull.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Pulls, or waits for the one who does. A pull for which nobody waits any more stops.
    pub(super) async fn pull(&self, reference: &Reference, credentials: Vec<Credential>) -> Result<Pulled, Failed> {
        let key = (reference.to_string(), credentials.clone());
        let flight = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, flight| joinable(flight).is_some());
            let flight = under_way.get(&key).and_then(joinable);
            let flight = flight.unwrap_or_else(|| self.take_off(reference.clone(), credentials));
            under_way.extend(flight.downgrade().map(|flight| (key, flight)));
            flight
        };
        let result = flight.await;
        self.changed.send_replace(());
        result
    }

    fn take_off(&self, reference: Reference, credentials: Vec<Credential>) -> Flight {
        let granted = self.pace.lock().unwrap_or_else(PoisonError::into_inner).try_take(tokio::time::Instant::now());
        let (puller, places) = (self.puller.clone(), self.places.clone());
        async move {
            if !granted {
                return Err(Failed::ours(TOO_OFTEN));
            }
            let _place = places.acquire().await.map_err(|_closed| Failed::ours("the agent is stopping"))?;
            let begun = Instant::now();
            match puller.pull_telling(&reference, &credentials, &()).await {
                Ok(pulled) => {
                    Ok(Pulled { image: Arc::new(pulled.image), credential: pulled.credential, took: begun.elapsed() })
                }
                Err(error) => Err(Failed { message: crate::images::text(&error).into(), retry: error.retry() }),
            }
        }
        .boxed()
        .shared()
    }
}

/// Unless it has ended, or everyone has left it.
fn joinable(flight: &WeakFlight) -> Option<Flight> {
    flight.upgrade().filter(|flight| flight.peek().is_none())
}
