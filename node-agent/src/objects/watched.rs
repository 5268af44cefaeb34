//! One watch for each object that is referred to, shared by all who refer to it, ended when the last is gone.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use samara_core::objects::{FetchError, Fetched};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::given::{Given, Named};

/// Between tries: doubled each time. Starts low because the authorizer's graph lags by milliseconds.
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// So long errors are taken for that lag, and whoever asks waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// A kind of objects.
pub struct Watched<K>(Arc<Shared<K>>);

struct Shared<K> {
    source: Source<K>,
    /// As messages spell it: `configmap`.
    kind: &'static str,
    entries: Mutex<HashMap<Name, Weak<Entry<K>>>>,
}

/// Where objects are read.
enum Source<K> {
    Api(Client),
    Given { objects: watch::Receiver<Given>, of: fn(&Given) -> &Named<K> },
}

/// Namespace and name.
type Name = (String, String);

/// `None` until it is known whether the object exists.
type State<K> = Option<Fetched<K>>;

struct Entry<K> {
    name: Name,
    shared: Weak<Shared<K>>,
    state: watch::Receiver<State<K>>,
    _task: AbortOnDropHandle<()>,
}

/// An interest in one object: while it is held, the object is followed.
pub struct Subscription<K> {
    entry: Arc<Entry<K>>,
    state: watch::Receiver<State<K>>,
}

impl<K> Clone for Watched<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Debug for Watched<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watched").field(&self.0.kind).finish()
    }
}

impl<K> Debug for Subscription<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.entry.name).finish()
    }
}

impl<K> Watched<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + PartialEq
        + Send
        + Sync
        + 'static,
{
    pub(super) fn new(client: Client, kind: &'static str) -> Self {
        Self::from(Source::Api(client), kind)
    }

    /// Of what manifests hold.
    pub(super) fn given(objects: watch::Receiver<Given>, kind: &'static str, of: fn(&Given) -> &Named<K>) -> Self {
        Self::from(Source::Given { objects, of }, kind)
    }

    fn from(source: Source<K>, kind: &'static str) -> Self {
        Self(Arc::new(Shared { source, kind, entries: Mutex::default() }))
    }

    /// Begins to follow an object, or joins those who do. Does not wait.
    pub fn subscribe(&self, namespace: &str, name: &str) -> Subscription<K> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let (sender, state) = watch::channel(None);
            let task = match &self.0.source {
                Source::Api(client) => {
                    let api = Api::<K>::namespaced(client.clone(), namespace);
                    tokio::spawn(follow(api, self.0.kind, name.to_owned(), sender))
                }
                Source::Given { objects, of } => {
                    tokio::spawn(follow_given(objects.clone(), *of, self.0.kind, key.clone(), sender))
                }
            };
            let entry = Arc::new(Entry {
                name: key.clone(),
                shared: Arc::downgrade(&self.0),
                state,
                _task: AbortOnDropHandle::new(task),
            });
            entries.insert(key, Arc::downgrade(&entry));
            entry
        });
        let mut state = entry.state.clone();
        state.mark_changed();
        Subscription { state, entry }
    }

    /// Objects that are followed now.
    pub fn count(&self) -> usize {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<K> Drop for Entry<K> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut entries = shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have begun to follow it anew in the meantime.
        if entries.get(&self.name).is_some_and(|entry| entry.strong_count() == 0) {
            entries.remove(&self.name);
        }
    }
}

impl<K> Subscription<K> {
    /// Waits until it is known whether the object exists, then gives its newest state.
    pub async fn get(&mut self) -> Fetched<K> {
        match self.state.wait_for(Option::is_some).await.map(|state| state.clone()) {
            Ok(Some(fetched)) => fetched,
            Ok(None) | Err(_) => Err(FetchError::Failed("the agent is stopping".to_owned())),
        }
    }

    /// Waits for the next change; the first call returns at once if [`Subscription::get`] was not called.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

async fn follow_given<K: Send + Sync + PartialEq + 'static>(
    mut objects: watch::Receiver<Given>,
    of: fn(&Given) -> &Named<K>,
    kind: &'static str,
    name: Name,
    state: watch::Sender<State<K>>,
) {
    loop {
        let object = of(&objects.borrow_and_update()).get(&name).cloned();
        let fetched = object.ok_or_else(|| FetchError::NotFound { kind, name: name.1.clone() });
        // Told of only if it is another: whoever waits for a change would act on it.
        state.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&fetched);
            *known = Some(fetched);
            changed
        });
        if objects.changed().await.is_err() {
            return;
        }
    }
}

async fn follow<K>(api: Api<K>, kind: &'static str, name: String, state: watch::Sender<State<K>>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = Box::pin(watcher(api, config));
    let missing = || FetchError::NotFound { kind, name: name.clone() };
    let mut failing_since: Option<tokio::time::Instant> = None;
    let mut delay = FIRST_RETRY;
    let mut seen = false;
    loop {
        match events.try_next().await {
            Ok(None) => return,
            Ok(Some(event)) => {
                (failing_since, delay) = (None, FIRST_RETRY);
                match event {
                    Event::Init => seen = false,
                    Event::InitApply(object) | Event::Apply(object) => {
                        seen = true;
                        drop(state.send_replace(Some(Ok(Arc::new(object)))));
                    }
                    Event::InitDone if seen => {}
                    Event::InitDone | Event::Delete(_) => drop(state.send_replace(Some(Err(missing())))),
                }
            }
            Err(error) => {
                let since = *failing_since.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() >= PATIENCE {
                    let message = format!("failed to fetch {kind} {name:?}: {error}");
                    // What is known is better than an error.
                    state.send_if_modified(|state| {
                        let unknown = !matches!(state, Some(Ok(_)));
                        if unknown {
                            *state = Some(Err(FetchError::Failed(message)));
                        }
                        unknown
                    });
                }
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LAST_RETRY);
            }
        }
    }
}
