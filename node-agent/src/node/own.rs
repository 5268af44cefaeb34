//! The handle that all parts have of our Node: they read the object, and report what its status must tell.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::runtime::watcher;
use samara_core::node::NodeImage;
use tokio::sync::watch;

use super::{NodeConfig, NodeError, addresses, host};

/// Between tries that failed, doubled each time. Not longer: until we see that the control plane took us for dead, we do
/// not say that we live.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Our Node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnNode {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    config: NodeConfig,
    machine: host::Machine,
    addresses: Vec<std::net::IpAddr>,
    object: watch::Sender<Option<Arc<Node>>>,
    reports: watch::Sender<Reports>,
}

/// What the parts said last.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports {
    /// Part to what is wrong with it.
    pub(super) troubles: BTreeMap<&'static str, String>,
    pub(super) images: Arc<Vec<NodeImage>>,
}

impl OwnNode {
    /// Looks at the machine; not registered yet. `api_server` is asked for nothing: the route to it tells our address
    /// when there is no default route. Without one it is this machine's own, 127.0.0.1.
    pub async fn new(
        name: String,
        config: NodeConfig,
        machine: host::Machine,
        api_server: Option<&str>,
    ) -> Result<Self, NodeError> {
        let addresses = addresses::of_node(&config, api_server).await?;
        let inner = Inner {
            name,
            config,
            machine,
            addresses,
            object: watch::Sender::new(None),
            reports: watch::Sender::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// `metadata.name`; `spec.nodeName` of our pods.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The node's own addresses, primary first: a pod's `status.hostIPs`.
    pub fn addresses(&self) -> &[std::net::IpAddr] {
        &self.inner.addresses
    }

    /// Its settings.
    pub fn config(&self) -> &NodeConfig {
        &self.inner.config
    }

    /// The machine below it.
    pub fn machine(&self) -> &host::Machine {
        &self.inner.machine
    }

    /// As events name it: the name is its UID too.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.inner.name.clone()),
            uid: Some(self.inner.name.clone()),
            ..ObjectReference::default()
        }
    }

    /// The object as the API server has it; `None` until it is registered.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.inner.object.subscribe()
    }

    /// As [`watch`](Self::watch), now.
    pub fn object(&self) -> Option<Arc<Node>> {
        self.inner.object.borrow().clone()
    }

    /// A part's health: `Err` makes the Node not ready, with these words in the condition's message; `Ok` takes that back.
    pub fn report(&self, part: &'static str, health: Result<(), String>) {
        self.inner.reports.send_if_modified(|reports| match health {
            Ok(()) => reports.troubles.remove(part).is_some(),
            Err(trouble) => reports.troubles.insert(part, trouble.clone()).is_none_or(|previous| previous != trouble),
        });
    }

    /// The images that are here now, for the scheduler's ImageLocality. Largest first.
    pub fn set_images(&self, images: Vec<NodeImage>) {
        self.inner.reports.send_if_modified(|reports| {
            let changed = *reports.images != images;
            reports.images = Arc::new(images);
            changed
        });
    }

    pub(super) fn reports(&self) -> watch::Receiver<Reports> {
        self.inner.reports.subscribe()
    }

    pub(crate) fn observe(&self, node: Arc<Node>) {
        self.inner.object.send_replace(Some(node));
    }

    /// The answer to a request of ours, unless the watch has told of something later meanwhile.
    pub(super) fn observe_answer(&self, answer: Node) {
        self.inner.object.send_if_modified(|object| {
            let is_news = object.as_deref().is_none_or(|known| is_later(&answer, known));
            if is_news {
                *object = Some(Arc::new(answer));
            }
            is_news
        });
    }
}

/// Versions of one object are numbers that grow (KEP-5504); where they are not, an answer to us is the later one.
fn is_later(node: &Node, than: &Node) -> bool {
    let version = |node: &Node| node.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    match (version(node), version(than)) {
        (Some(version), Some(than)) => version > than,
        _ => true,
    }
}

/// Keeps the object up to date, for ever.
pub(super) async fn watch(node: &OwnNode, nodes: &kube::Api<Node>) {
    // The Node authorizer grants this selector and nothing wider.
    let only_us = watcher::Config::default().fields(&format!("metadata.name={}", node.name()));
    let mut events = pin!(watcher(nodes.clone(), only_us));
    let mut delay = FIRST_RETRY;
    while let Some(event) = events.next().await {
        if event.is_ok() {
            delay = FIRST_RETRY;
        }
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => node.observe(Arc::new(object)),
            Ok(watcher::Event::Delete(_)) => {
                tracing::warn!(
                    node = node.name(),
                    "our Node object was deleted: pods go on; restart the agent to register again"
                );
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => {
                tracing::warn!(%error, "watching our Node object");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LAST_RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_the_watch_was_faster_than_is_old() {
        let node = |version: Option<&str>| Node {
            metadata: kube::api::ObjectMeta { resource_version: version.map(str::to_owned), ..Default::default() },
            ..Node::default()
        };
        for (answer, known, is_later_) in [
            (Some("10"), Some("9"), true),
            (Some("9"), Some("10"), false),
            (Some("9"), Some("9"), false),
            (Some("x"), Some("9"), true),
            (None, Some("9"), true),
        ] {
            assert_eq!(is_later(&node(answer), &node(known)), is_later_, "{answer:?} {known:?}");
        }
    }
}
