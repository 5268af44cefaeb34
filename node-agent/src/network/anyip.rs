//! Mode `anyip`: one namespace for all pods of the node, wired when the Node is given its range, and addresses from a ledger.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::cidr::{Cidr, InvalidCidr};
use super::ledger::{Entry, Ledger, LedgerError};
use super::link::{self, LinkError};
use super::pool::{Exhausted, Pool};
use super::{local, netns};

/// Wiring is tried again this long after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Whether pods can have addresses. The node's `Ready` condition follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkState {
    /// The Node has no `spec.podCIDR` yet.
    NoPodCidr,
    /// Pods get addresses.
    Ready,
    /// The range is no range or the wires could not be laid; tried again.
    Failed(String),
}

/// What a pod is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The pod's addresses, primary first.
    pub ips: Vec<IpAddr>,
    /// What 127.0.0.1 means for this pod.
    pub loopback: IpAddr,
    /// File of the network namespace; `None`: the host's.
    pub namespace: Option<PathBuf>,
}

/// How pods have addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Of the Node's range, in a namespace that all share.
    #[default]
    AnyIp,
    /// Of this machine's loopback.
    Local,
}

/// Why a pod has no address.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Not (yet) possible for any pod.
    #[error("network is not ready: {0}")]
    NotReady(String),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Cidr(#[from] InvalidCidr),
}

/// The pods' network. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mode: Mode,
    namespace: PathBuf,
    ledger: Ledger,
    /// One for each range, primary first. No lock is held over an await.
    pools: Mutex<Vec<Pool>>,
    state: watch::Sender<NetworkState>,
}

impl Network {
    /// Opens the ledger and the namespace's path under `run_dir`; [`Network::keep`] does the rest.
    pub fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        Self::with_mode(run_dir, Mode::AnyIp)
    }

    /// [`Network::open`] in a mode; [`Mode::Local`] is ready at once.
    pub fn with_mode(run_dir: &Path, mode: Mode) -> Result<Self, NetworkError> {
        let state = match mode {
            Mode::AnyIp => NetworkState::NoPodCidr,
            Mode::Local => NetworkState::Ready,
        };
        Ok(Self(Arc::new(Inner {
            mode,
            namespace: run_dir.join("netns/pods"),
            ledger: Ledger::open(run_dir.join("addresses"))?,
            pools: Mutex::new(Vec::new()),
            state: watch::Sender::new(state),
        })))
    }

    /// Whether pods can have addresses.
    pub fn state(&self) -> watch::Receiver<NetworkState> {
        self.0.state.subscribe()
    }

    /// Lays the wires as soon as the Node's ranges are known, and again if they change or it failed.
    pub async fn keep(self, mut ranges: watch::Receiver<Vec<String>>, shutdown: CancellationToken) {
        if self.0.mode == Mode::Local {
            return;
        }
        let mut wired: Option<Vec<String>> = None;
        loop {
            let wanted = ranges.borrow_and_update().clone();
            if !wanted.is_empty() && wired.as_ref() != Some(&wanted) {
                match self.wire(&wanted).await {
                    Ok(()) => {
                        info!(ranges = ?wanted, "pods' network is ready");
                        self.0.state.send_replace(NetworkState::Ready);
                        wired = Some(wanted);
                    }
                    Err(error) => {
                        let message = chain(&error);
                        warn!(error = message, "pods' network could not be made");
                        self.0.state.send_replace(NetworkState::Failed(message));
                    }
                }
            }
            let retry = async {
                match wired {
                    Some(_) => std::future::pending().await,
                    None => tokio::time::sleep(RETRY).await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = ranges.changed() => if changed.is_err() { return },
                () = retry => {}
            }
        }
    }

    /// Namespace and wires for these ranges. Addresses that an earlier agent had given stay given.
    pub async fn wire(&self, ranges: &[String]) -> Result<(), NetworkError> {
        let ranges: Vec<Cidr> = ranges.iter().map(|range| range.parse()).collect::<Result<_, _>>()?;
        netns::ensure(&self.0.namespace).map_err(LinkError::from)?;
        for range in &ranges {
            link::wire(&self.0.namespace, *range).await?;
        }
        let mut pools: Vec<Pool> = ranges.into_iter().map(Pool::new).collect();
        for (address, entry) in self.0.ledger.entries()? {
            for pool in &mut pools {
                match &entry {
                    Entry::Taken(pod) => drop(pool.restore(address, pod)),
                    Entry::Resting(since) => pool.restore_resting(address, *since),
                }
            }
        }
        *self.pools() = pools;
        Ok(())
    }

    /// The pod's addresses: the same for every call until they are released, also across restarts of the agent.
    pub fn attach(&self, pod: &str, now: Timestamp) -> Result<Attachment, NetworkError> {
        if self.0.mode == Mode::Local {
            let (own, loopback) = local::addresses(pod);
            return Ok(Attachment { ips: vec![own], loopback, namespace: None });
        }
        let mut pools = self.pools();
        if pools.is_empty() {
            return Err(NetworkError::NotReady(self.why()));
        }
        let mut ips = Vec::with_capacity(pools.len());
        for pool in pools.iter_mut() {
            let known = pool.of(pod).is_some();
            let address = pool.allocate(pod, now)?;
            if !known && let Err(error) = self.0.ledger.take(address, pod) {
                // What the next agent could not know is nobody's.
                pool.free(pod, now);
                return Err(error.into());
            }
            ips.push(address);
        }
        let index = ips.first().and_then(|first| pools[0].range().index(*first)).unwrap_or(0);
        Ok(Attachment { ips, loopback: Cidr::loopback(index), namespace: Some(self.0.namespace.clone()) })
    }

    /// Gives the pod's addresses back, to rest. A pod that has none is none the worse.
    pub fn release(&self, pod: &str, now: Timestamp) -> Result<(), NetworkError> {
        for pool in self.pools().iter_mut() {
            if let Some(address) = pool.free(pod, now) {
                self.0.ledger.rest(address)?;
            }
        }
        Ok(())
    }

    /// Releases the addresses of pods that are gone: those that ended while no agent was there.
    pub fn release_all_but(&self, living: &HashSet<String>, now: Timestamp) -> Result<(), NetworkError> {
        let gone: HashSet<String> = {
            let pools = self.pools();
            pools.iter().flat_map(Pool::pods).filter(|pod| !living.contains(*pod)).map(str::to_owned).collect()
        };
        gone.iter().try_for_each(|pod| self.release(pod, now))
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Pool>> {
        self.0.pools.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn why(&self) -> String {
        match &*self.0.state.borrow() {
            NetworkState::NoPodCidr | NetworkState::Ready => "the Node has no spec.podCIDR".to_owned(),
            NetworkState::Failed(message) => message.clone(),
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
