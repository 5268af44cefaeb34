//! What all workers share.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use samara_core::events::Event;
use samara_core::quantity::Amount;
use samara_core::resources::ResourceList;
use samara_shim_client::cgroup::Cgroups;

use super::{PodRef, PodsConfig};
use crate::events::Recorder;
use crate::images::Images;
use crate::network::Network;
use crate::node::OwnNode;
use crate::objects::Objects;
use crate::shims::Shims;
use crate::starts::Starts;
use crate::status::StatusWriter;
use crate::volumes::Layout;

/// The means by which effects are carried out.
#[derive(Debug, Clone)]
pub struct Context {
    pub config: PodsConfig,
    pub layout: Arc<Layout>,
    pub node: OwnNode,
    pub network: Network,
    pub objects: Objects,
    pub images: Images,
    pub shims: Shims,
    pub status: StatusWriter,
    pub events: Recorder,
    pub starts: Starts,
    /// This host's cgroup hierarchies, for what is left when a pod has ended.
    pub cgroups: Arc<Cgroups>,
}

impl Context {
    /// An event about a pod.
    pub(super) fn record(&self, pod: &PodRef, event: Event) {
        self.events.record(pod.object(None), event);
    }

    /// An event about one of its containers.
    pub(crate) fn record_container(&self, pod: &PodRef, spec: &Pod, container: &str, event: Event) {
        let init = spec.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
        let init = init.is_some_and(|all| all.iter().any(|one| one.name == container));
        let list = if init { "initContainers" } else { "containers" };
        self.events.record(pod.object(Some(format!("spec.{list}{{{container}}}"))), event);
    }

    /// What the Node offers; nothing before it is registered.
    pub(super) fn allocatable(&self) -> ResourceList {
        self.node.object().map(|node| allocatable(&node)).unwrap_or_default()
    }
}

fn allocatable(node: &Node) -> ResourceList {
    let quantities = node.status.as_ref().and_then(|status| status.allocatable.as_ref()).into_iter().flatten();
    quantities.filter_map(|(name, quantity)| Some((name.clone(), Amount::try_from(quantity).ok()?))).collect()
}
