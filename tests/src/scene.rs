//! One test's place in the cluster: a namespace of its own, and what is kept of it when the test fails.

mod describe;
mod evidence;

use std::fmt::Debug;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::node::Node;
use crate::wait::{Seen, until};

pub use describe::{container_state, describe, pod_ip};

/// How long a pod may take to anything on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A test's place.
#[derive(Debug, Clone)]
pub struct Scene {
    cluster: Arc<Cluster>,
    node: Arc<Node>,
    test: String,
    namespace: String,
}

impl Scene {
    /// Makes the test's namespace. `node` is the one which all tests share.
    pub async fn new(cluster: Arc<Cluster>, node: Arc<Node>, test: &str) -> Result<Self> {
        let namespace = namespace_name(test);
        let object = serde_json::from_value(json!({ "metadata": { "name": namespace } }))?;
        Api::<Namespace>::all(cluster.client().clone())
            .create(&PostParams::default(), &object)
            .await
            .context("make the test's namespace")?;
        let scene = Self { cluster, node, test: test.to_owned(), namespace };
        let accounts = scene.api::<k8s_openapi::api::core::v1::ServiceAccount>();
        until("the namespace has its service account", PATIENCE, async || {
            Ok(Seen::some(accounts.get_opt("default").await?, "none"))
        })
        .await?;
        Ok(scene)
    }

    /// The control plane.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The node which all tests share.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The test's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Objects of the test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client().clone(), &self.namespace)
    }

    /// Creates an object.
    pub async fn create<K>(&self, object: Value) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let object: K = serde_json::from_value(object).with_context(|| format!("the test's own manifest of {name}"))?;
        self.api::<K>().create(&PostParams::default(), &object).await.with_context(|| format!("create {name}"))
    }

    /// Deletes an object and waits until it is gone.
    pub async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        api.delete(name, &DeleteParams::foreground()).await.with_context(|| format!("delete {name}"))?;
        until(format!("{name} is gone"), PATIENCE, async || {
            Ok(match api.get_opt(name).await? {
                None => Seen::Yes(()),
                Some(_) => Seen::NotYet("still there".into()),
            })
        })
        .await
    }

    /// Watches an object until it is as wanted.
    pub async fn object_until<K, T>(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&K) -> Seen<T>,
    ) -> Result<T>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let mut last = String::from("no such object");
        let mut stream = pin!(watch_object(self.api::<K>(), name));
        let watched = async {
            while let Some(next) = stream.next().await {
                match next {
                    Ok(Some(object)) => match look(&object) {
                        Seen::Yes(value) => return Ok(value),
                        Seen::NotYet(reason) => last = reason,
                    },
                    Ok(None) => {}
                    Err(error) => last = format!("cannot watch: {error}"),
                }
            }
            bail!("the watch of {name} ended")
        };
        match tokio::time::timeout(limit, watched).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("waited {limit:?} in vain: {name} {what}; last seen: {last}"),
        }
    }

    /// Watches a pod until it is as wanted.
    pub async fn pod_until(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Result<Pod> {
        self.object_until(name, what, PATIENCE, |pod: &Pod| Seen::some(wanted(pod).then(|| pod.clone()), describe(pod)))
            .await
    }

    /// Waits until a pod is Ready.
    pub async fn ready(&self, name: &str) -> Result<Pod> {
        self.pod_until(name, "is Ready", describe::is_ready).await
    }

    /// Waits until a pod is over, and returns it.
    pub async fn over(&self, name: &str) -> Result<Pod> {
        self.pod_until(name, "is over", |pod| matches!(describe::phase(pod), "Succeeded" | "Failed")).await
    }

    /// Pods with these labels, that are not being deleted.
    pub async fn pods(&self, labels: &str) -> Result<Vec<Pod>> {
        let list = self.api::<Pod>().list(&ListParams::default().labels(labels)).await.context("list pods")?;
        Ok(list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// Waits until that many pods with these labels are Ready, and no others there are.
    pub async fn ready_pods(&self, labels: &str, count: usize) -> Result<Vec<Pod>> {
        until(format!("{count} pods {labels} are Ready"), PATIENCE, async || {
            let pods = self.pods(labels).await?;
            let good = pods.len() == count && pods.iter().all(describe::is_ready);
            let seen =
                pods.iter().map(|pod| format!("{}: {}", pod.name_any(), describe(pod))).collect::<Vec<_>>().join("; ");
            Ok(Seen::some(good.then_some(pods), seen))
        })
        .await
    }

    /// A container's log, through the API server.
    pub async fn log(&self, pod: &str, params: &LogParams) -> Result<String> {
        self.api::<Pod>().logs(pod, params).await.with_context(|| format!("log of {pod}"))
    }

    /// Waits until a pod's log holds a text, and returns the log.
    pub async fn log_with(&self, pod: &str, text: &str) -> Result<String> {
        until(format!("the log of {pod} holds {text:?}"), PATIENCE, async || {
            // Before the container runs, asking for its log is an error.
            let log = self.log(pod, &LogParams::default()).await.unwrap_or_else(|error| format!("{error:#}"));
            Ok(if log.contains(text) { Seen::Yes(log) } else { Seen::NotYet(log) })
        })
        .await
    }

    /// The same for one of a pod's containers.
    pub async fn container_log_with(&self, pod: &str, container: &str, text: &str) -> Result<String> {
        let params = LogParams { container: Some(container.to_owned()), ..LogParams::default() };
        until(format!("the log of {pod}/{container} holds {text:?}"), PATIENCE, async || {
            // Before the container runs, asking for its log is an error.
            let log = self.log(pod, &params).await.unwrap_or_else(|error| format!("{error:#}"));
            Ok(if log.contains(text) { Seen::Yes(log) } else { Seen::NotYet(log) })
        })
        .await
    }

    /// Waits for an event of this reason about an object, and returns its message.
    pub async fn event(&self, object: &str, reason: &str) -> Result<String> {
        let selector = ListParams::default().fields(&format!("involvedObject.name={object}"));
        until(format!("{object} has an event {reason}"), PATIENCE, async || {
            let events = self.api::<Event>().list(&selector).await?.items;
            let found = events.iter().find(|event| event.reason.as_deref() == Some(reason));
            let message = found.map(|event| event.message.clone().unwrap_or_default());
            let others: Vec<_> = events.iter().filter_map(|event| event.reason.as_deref()).collect();
            Ok(Seen::some(message, format!("only {others:?}")))
        })
        .await
    }

    /// `kubectl -n <namespace> ...`.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster.kubectl().run(&[&["-n", &self.namespace], args].concat()).await
    }

    /// `kubectl apply` of a text.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        self.cluster.kubectl().input(&["-n", &self.namespace, "apply", "-f", "-"], yaml).await.map(drop)
    }

    /// `kubectl apply` of a sample's own manifest, as it stands.
    pub async fn apply_sample(&self, name: &str) -> Result<()> {
        let file = crate::samples::manifest(name);
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]).await.map(drop)
    }

    /// Removes the namespace without waiting for it.
    pub async fn end(&self) {
        // What stays behind here, the end of the cluster takes.
        Api::<Namespace>::all(self.cluster.client().clone())
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .ok();
    }

    /// Keeps everything that explains a failure in `<dir>/<test>/`.
    pub async fn keep_evidence(&self, dir: &Path, failure: &str) -> Result<()> {
        evidence::keep(self, &dir.join(&self.test), failure).await
    }
}

/// A namespace's name has 63 characters, a sentence more: what is cut off is told by a number.
fn namespace_name(test: &str) -> String {
    let mut name = test.replace("::", "-").replace('_', "-");
    if name.len() > 60 {
        let sum = test.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        name.truncate(52);
        name = format!("{}-{sum:x}", name.trim_end_matches('-'));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_sentence_is_its_own_name() {
        assert_eq!(namespace_name("l1::the_node_is_ready"), "l1-the-node-is-ready");
    }

    #[test]
    fn long_sentences_with_one_beginning_have_two_legal_names() {
        let beginning = "l2::rollouts::a_rolling_update_and_a_rollback_lose_no_request";
        let names =
            ["_to_the_endpoints", "_through_the_api_server"].map(|end| namespace_name(&format!("{beginning}{end}")));
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.len() <= 63 && !name.contains(['_', ':'])), "{names:?}");
    }
}
