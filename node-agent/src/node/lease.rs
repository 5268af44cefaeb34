//! The lease: renewed four times in its duration, whatever else goes wrong.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, MissedTickBehavior};

use super::OwnNode;

/// Where the leases of all nodes are.
const NAMESPACE: &str = "kube-node-lease";
/// The share of the duration after which it is renewed (kubelet: `nodeLeaseRenewIntervalFraction`).
const RENEW_FRACTION: f64 = 0.25;
/// Attempts for one renewal (kubelet: `maxUpdateRetries`).
const ATTEMPTS: u32 = 5;

/// Keeps the lease, for ever.
pub(super) async fn keep(node: &OwnNode, client: Client) {
    let leases = Api::<Lease>::namespaced(client, NAMESPACE);
    let duration = Duration::from_secs(u64::try_from(node.config().lease_seconds).unwrap_or(40).max(1));
    let mut every = tokio::time::interval(duration.mul_f64(RENEW_FRACTION));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held = None;
    let mut renewed_at = Instant::now();
    loop {
        every.tick().await;
        match renew(node, &leases, &mut held).await {
            Ok(()) => renewed_at = Instant::now(),
            Err(error) => tracing::warn!(
                %error,
                since_s = renewed_at.elapsed().as_secs(),
                "node lease not renewed; after {} s the control plane takes the node for dead",
                duration.as_secs()
            ),
        }
    }
}

async fn renew(node: &OwnNode, leases: &Api<Lease>, held: &mut Option<Lease>) -> kube::Result<()> {
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        match try_renew(node, leases, held).await {
            Ok(lease) => {
                *held = Some(lease);
                return Ok(());
            }
            Err(error) => {
                // Whatever it was, look at the server's before the next attempt.
                *held = None;
                let hopeless =
                    matches!(&error, kube::Error::Api(status) if !status.is_conflict() && !status.is_not_found());
                last = Err(error);
                if hopeless {
                    break;
                }
            }
        }
    }
    last
}

async fn try_renew(node: &OwnNode, leases: &Api<Lease>, held: &Option<Lease>) -> kube::Result<Lease> {
    let existing = match held {
        Some(lease) => Some(lease.clone()),
        None => leases.get_opt(node.name()).await?,
    };
    let object = node.object();
    let uid = object.as_ref().and_then(|node| node.metadata.uid.as_deref());
    let wanted =
        samara_core::node::lease(node.name(), uid, existing.as_ref(), node.config().lease_seconds, Timestamp::now());
    match existing {
        Some(_) => leases.replace(node.name(), &PostParams::default(), &wanted).await,
        None => leases.create(&PostParams::default(), &wanted).await,
    }
}
