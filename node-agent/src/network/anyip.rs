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
            if !known {
                self.0.ledger.take(address, pod)?;
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
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Runs a test in a network namespace of its own, that ends with its thread; the pods' is unmounted whatever happens.
    fn in_new_namespace(test: impl FnOnce(&Path) + Send) {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path();
        let result = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
                    test(run_dir);
                })
                .join()
        });
        let _ = rustix::mount::unmount(dir.path().join("netns/pods"), rustix::mount::UnmountFlags::DETACH);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn wired(run_dir: &Path, ranges: &[&str]) -> Network {
        let network = Network::open(run_dir).unwrap();
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        block_on(network.wire(&ranges)).unwrap();
        network
    }

    fn listen(network: &Attachment, port: u16) -> TcpListener {
        let address = SocketAddr::new(network.ips[0], port);
        netns::inside(network.namespace.as_ref().unwrap(), || TcpListener::bind(address)).unwrap().unwrap()
    }

    fn talks(stream: &mut TcpStream, listener: &TcpListener) -> SocketAddr {
        let (mut accepted, from) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        from
    }

    #[test]
    fn the_host_reaches_each_pod_on_its_own_address_and_one_port() {
        in_new_namespace(|run_dir| {
            let network = wired(run_dir, &["10.99.0.0/24"]);
            let a = network.attach("a", Timestamp::now()).unwrap();
            let b = network.attach("b", Timestamp::now()).unwrap();
            assert_ne!(a.ips, b.ips);
            assert_ne!(a.loopback, b.loopback);
            for pod in [&a, &b] {
                // Port 80: low ports need no privilege, and both pods have theirs.
                let listener = listen(pod, 80);
                let mut stream = TcpStream::connect((pod.ips[0], 80)).unwrap();
                assert_eq!(talks(&mut stream, &listener).ip(), "10.99.0.1".parse::<IpAddr>().unwrap());
            }
        });
    }

    #[test]
    fn a_pod_reaches_another_pod_and_the_host_from_its_own_address() {
        in_new_namespace(|run_dir| {
            let network = wired(run_dir, &["10.99.0.0/24"]);
            let a = network.attach("a", Timestamp::now()).unwrap();
            let b = network.attach("b", Timestamp::now()).unwrap();
            let connect = |to: SocketAddr| {
                netns::inside(a.namespace.as_ref().unwrap(), || {
                    block_on(async {
                        let socket = tokio::net::TcpSocket::new_v4().unwrap();
                        socket.bind(SocketAddr::new(a.ips[0], 0)).unwrap();
                        socket.connect(to).await.unwrap().into_std().unwrap()
                    })
                })
                .unwrap()
            };
            let pods_listener = listen(&b, 7000);
            let hosts_listener = TcpListener::bind("10.99.0.1:7000").unwrap();
            for (to, listener) in [(b.ips[0], &pods_listener), ("10.99.0.1".parse().unwrap(), &hosts_listener)] {
                let mut stream = connect(SocketAddr::new(to, 7000));
                stream.set_nonblocking(false).unwrap();
                assert_eq!(talks(&mut stream, listener).ip(), a.ips[0]);
            }
        });
    }

    #[test]
    fn wiring_again_keeps_connections_and_addresses() {
        in_new_namespace(|run_dir| {
            let first = wired(run_dir, &["10.99.0.0/24"]);
            let a = first.attach("a", Timestamp::now()).unwrap();
            first.attach("gone", Timestamp::now()).unwrap();
            let listener = listen(&a, 80);
            let mut stream = TcpStream::connect((a.ips[0], 80)).unwrap();

            let second = wired(run_dir, &["10.99.0.0/24"]);
            assert_eq!(second.attach("a", Timestamp::now()).unwrap(), a);
            talks(&mut stream, &listener);
            second.release_all_but(&HashSet::from(["a".to_owned()]), Timestamp::now()).unwrap();
            assert_eq!(second.attach("new", Timestamp::now()).unwrap().ips, ["10.99.0.4".parse::<IpAddr>().unwrap()]);
        });
    }

    #[test]
    fn two_ranges_give_a_pod_an_address_of_each_family() {
        in_new_namespace(|run_dir| {
            let network = wired(run_dir, &["10.99.0.0/24", "fd00:99::/64"]);
            let pod = network.attach("a", Timestamp::now()).unwrap();
            assert_eq!(pod.ips, ["10.99.0.2".parse::<IpAddr>().unwrap(), "fd00:99::2".parse().unwrap()]);
            let address = SocketAddr::new(pod.ips[1], 80);
            let listener =
                netns::inside(pod.namespace.as_ref().unwrap(), || TcpListener::bind(address)).unwrap().unwrap();
            let mut stream = TcpStream::connect(address).unwrap();
            assert_eq!(talks(&mut stream, &listener).ip(), "fd00:99::1".parse::<IpAddr>().unwrap());
        });
    }

    #[test]
    fn in_mode_local_a_pod_has_an_address_of_this_machine_without_any_wires() {
        let dir = tempfile::tempdir().unwrap();
        let network = Network::with_mode(dir.path(), Mode::Local).unwrap();
        assert_eq!(*network.state().borrow(), NetworkState::Ready);
        let pod = network.attach("a", Timestamp::now()).unwrap();
        assert!(pod.namespace.is_none() && pod.ips.iter().all(IpAddr::is_loopback));
        assert_eq!(network.attach("a", Timestamp::now()).unwrap(), pod);
        network.release("a", Timestamp::now()).unwrap();
    }

    #[test]
    fn without_a_range_a_pod_is_told_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let network = Network::open(dir.path()).unwrap();
        let error = network.attach("a", Timestamp::now()).unwrap_err();
        assert_eq!(error.to_string(), "network is not ready: the Node has no spec.podCIDR");
        assert_eq!(*network.state().borrow(), NetworkState::NoPodCidr);
    }

    #[test]
    fn a_range_that_is_none_is_named_in_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let network = Network::open(dir.path()).unwrap();
        let (_ranges, receiver) = watch::channel(vec!["10.99.0.0".to_owned()]);
        let mut state = network.state();
        block_on(async {
            let shutdown = CancellationToken::new();
            let keeper = tokio::spawn(network.clone().keep(receiver, shutdown.clone()));
            state.wait_for(|state| *state != NetworkState::NoPodCidr).await.unwrap();
            shutdown.cancel();
            keeper.await.unwrap();
        });
        let want = "\"10.99.0.0\" is not an address range such as 10.0.7.0/24";
        assert_eq!(*state.borrow(), NetworkState::Failed(want.to_owned()));
    }
}
