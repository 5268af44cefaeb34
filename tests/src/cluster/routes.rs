//! The route controller of a cloud, in small: each node's pod network is reached through the node.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};

use crate::site::namespace::Namespace;

/// Sets a route whenever a node has a pod network and an address. Runs until dropped.
pub(super) async fn follow_nodes(client: Client, namespace: Namespace) {
    let nodes = watcher(Api::<Node>::all(client), watcher::Config::default()).default_backoff().applied_objects();
    nodes
        .for_each(async |node| {
            let Ok(node) = node else { return };
            let Some((network, gateway)) = route(&node) else { return };
            let line = format!("route replace {network} via {gateway}\n");
            let set = tokio::task::block_in_place(|| namespace.ip(&line));
            if let Err(error) = set {
                tracing::error!("no route to the pods of node {}: {error:#}", node.name_any());
            }
        })
        .await;
}

/// Pod network and node address, if the node has both.
fn route(node: &Node) -> Option<(&str, &str)> {
    let network = node.spec.as_ref()?.pod_cidr.as_deref()?;
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let gateway = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    Some((network, &gateway.address))
}
