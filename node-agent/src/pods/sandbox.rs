//! What a pod's containers share: addresses, volumes, files. Made once, kept up to date, taken down at the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use samara_core::events::{self, Event, reason};
use samara_core::objects::Objects as Values;
use samara_core::oci::PodNetwork;
use samara_core::pod::is_host_network;
use samara_core::resources::ResourceList;
use samara_core::volumes::Sources;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span, info, warn};

use super::PodRef;
use super::context::Context;
use super::dispatch::Wish;
use super::happened::Happened;
use super::host_ports;
use crate::metrics;
use crate::network::{
    Dns, ForwardError, Forwarder, HostName, NetworkError, NetworkState, host_name, hosts_file, hosts_file_of_host,
    pod_dns,
};
use crate::objects::{ClassError, PodObjects, PodTokens, TokenError};
use crate::starts::Phase;
use crate::volumes::{EtcFiles, PodVolumes, VolumeFailure};

/// Between tries: doubled each time (kubelet: `nestedpendingoperations`, 500 ms to 2 min 2 s).
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(122);
/// Before a token that was refused is asked for again.
const TOKEN_RETRY: Duration = Duration::from_secs(5);
/// At the agent's start.
const NETWORK_COMES_UP: Duration = Duration::from_secs(3);

/// A pod's sandbox.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) network: PodNetwork,
    pub(super) pod_ips: Vec<IpAddr>,
    pub(super) host_ips: Vec<IpAddr>,
    pub(super) allocatable: ResourceList,
    pub(super) volumes: PodVolumes,
    _host_ports: Forwarder,
    values: watch::Receiver<Arc<Values>>,
}

impl Sandbox {
    /// ConfigMaps and Secrets as they are now, and Services as they were when one of those changed last.
    pub(super) fn values(&self) -> Arc<Values> {
        self.values.borrow().clone()
    }

    pub(super) fn observed(&self) -> samara_core::pod::Sandbox {
        samara_core::pod::Sandbox { ready: true, pod_ips: self.pod_ips.clone() }
    }
}

/// Why it is not there yet.
#[derive(Debug, thiserror::Error)]
enum SandboxError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Volume(#[from] VolumeFailure),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Class(#[from] ClassError),
    #[error("failed to write the pod's files: {0}")]
    Files(String),
    #[error("hostPort: {error}: {}", .error.source)]
    HostPort {
        #[from]
        error: ForwardError,
    },
}

impl SandboxError {
    fn event(&self, pod: &Pod) -> Event {
        match self {
            Self::Network(error) => match error {
                NetworkError::NotReady(_) => Event::warning(reason::NETWORK_NOT_READY, error.to_string()),
                other @ (NetworkError::Exhausted(_)
                | NetworkError::Ledger(_)
                | NetworkError::Link(_)
                | NetworkError::Cidr(_)) => events::failed_create_sandbox(&other.to_string()),
            },
            Self::Volume(failure) => events::failed_mount(&failure.volume, &failure.message),
            Self::Token(error) => {
                let volumes = samara_core::volumes::token_requests(pod);
                events::failed_mount(volumes.first().map_or("", |(volume, _)| volume), &error.to_string())
            }
            Self::Class(_) | Self::Files(_) | Self::HostPort { .. } => events::failed_create_sandbox(&self.to_string()),
        }
    }
}

/// Makes the sandbox, however long that takes, reports it, and keeps its volumes up to date until it is aborted.
pub(super) async fn make_and_keep(
    context: Arc<Context>,
    pod_ref: PodRef,
    mut wishes: watch::Receiver<Wish>,
    sender: mpsc::UnboundedSender<Happened>,
) {
    let pod = wishes.borrow_and_update().pod.clone();
    let mut objects = PodObjects::of(&context.objects, &pod_ref, &pod);
    let volumes = PodVolumes::new(context.layout.clone(), pod_ref.uid.clone());
    objects.hold(volumes.held_tokens(&pod));
    let new = !context.layout.pod(&pod_ref.uid).exists();
    // What runs here already goes on, whatever has become of its class.
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.clone()).filter(|_| new);
    // What is odd about its name service is told once in a pod's life.
    let mut first = new;
    let (mut retry, mut patience) = (FIRST_RETRY, NETWORK_COMES_UP);
    let (sandbox, values) = loop {
        let how = How { class: class.as_deref(), first, patience: std::mem::take(&mut patience) };
        let made = Box::pin(make(&context, &pod_ref, &pod, &mut objects, how)).instrument(debug_span!("sandbox"));
        let made = metrics::agent().operations.runtime("run_podsandbox", made).await;
        match made {
            Ok(made) => break made,
            Err(error) => {
                info!(error = %error, "sandbox is not ready");
                context.record(&pod_ref, error.event(&pod));
            }
        }
        first = false;
        let mut network = context.network.state();
        network.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(retry) => retry = (retry * 2).min(LAST_RETRY),
            () = objects.changed() => {}
            _ = network.changed() => {}
        }
    };
    let sandbox = Arc::new(sandbox);
    drop(sender.send(Happened::SandboxReady(sandbox.clone())));
    keep(&context, wishes, sandbox, objects, values, &sender).await;
}

/// How a sandbox is made.
#[derive(Debug, Clone, Copy)]
struct How<'a> {
    /// The RuntimeClass that must be one of ours.
    class: Option<&'a str>,
    /// The first try in the pod's life.
    first: bool,
    /// With the network.
    patience: Duration,
}

async fn make(
    context: &Context,
    pod_ref: &PodRef,
    pod: &Pod,
    objects: &mut PodObjects,
    how: How<'_>,
) -> Result<(Sandbox, watch::Sender<Arc<Values>>), SandboxError> {
    let host_ips = context.node.addresses().to_vec();
    let hostname = host_name(pod, &context.config.dns.domain, &context.node.config().hostname);
    // Tokens take a round trip: they are on their way before anything else is looked for.
    let ((values, tokens), attached, class) = tokio::join!(
        fetch(context, pod_ref, objects),
        attach(context, pod_ref, pod, &hostname, how.patience),
        is_ours(context, how.class),
    );
    class?;
    let (mut network, pod_ips) = attached?;
    let tokens = tokens.all()?;
    let resolv = std::fs::read_to_string(&context.config.resolv_conf).unwrap_or_default();
    let dns = pod_dns(pod, &context.config.dns, &Dns::parse(&resolv));
    if how.first {
        let forming = dns.forming.iter().map(|message| ("DNSConfigForming", message));
        let missing = dns.missing_cluster_dns.iter().map(|message| ("MissingClusterDNS", message));
        forming.chain(missing).for_each(|(reason, text)| context.record(pod_ref, Event::warning(reason, text)));
    }
    (network.dns_servers, network.dns_searches, network.dns_options) =
        (dns.dns.servers.clone(), dns.dns.searches.clone(), dns.dns.options.clone());

    let _measured = context.starts.measure(&pod_ref.uid, Phase::Volumes, None);
    let allocatable = context.allocatable();
    let volumes = PodVolumes::new(context.layout.clone(), pod_ref.uid.clone());
    let sources = Sources {
        objects: &values,
        host_ips: &host_ips,
        pod_ips: &pod_ips,
        allocatable: &allocatable,
        tokens: &tokens,
    };
    volumes.set_up(pod, &sources)?;
    let files = etc_files(pod, &pod_ips, &hostname, &dns.dns);
    volumes.write_etc(&files).map_err(|error| SandboxError::Files(error.text()))?;
    let _host_ports = Forwarder::open(&host_ports::wanted(pod, &pod_ips)).await?;
    let (sender, values) = watch::channel(Arc::new(values));
    Ok((Sandbox { network, pod_ips, host_ips, allocatable, volumes, _host_ports, values }, sender))
}

/// Nobody but a pod that names a class waits for it, and only the first of them for longer than a look.
async fn is_ours(context: &Context, class: Option<&str>) -> Result<(), ClassError> {
    match class.filter(|class| !class.is_empty()) {
        Some(class) => context.objects.classes.check(class, &context.node.config().runtime_handlers).await,
        None => Ok(()),
    }
}

/// What [`PodObjects::fetch`] gives, measured.
async fn fetch(context: &Context, pod_ref: &PodRef, objects: &mut PodObjects) -> (Values, PodTokens) {
    let _measured = context.starts.measure(&pod_ref.uid, Phase::Objects, None);
    objects.fetch(Timestamp::now()).await
}

/// The pod's place in a network. When the agent has just started the network is on its way: that is nothing to tell the
/// user of, so it is waited for with `patience`.
async fn attach(
    context: &Context,
    pod_ref: &PodRef,
    pod: &Pod,
    hostname: &HostName,
    patience: Duration,
) -> Result<(PodNetwork, Vec<IpAddr>), SandboxError> {
    let _measured = context.starts.measure(&pod_ref.uid, Phase::Network, None);
    let network = PodNetwork { hostname: hostname.kernel.clone(), ..PodNetwork::default() };
    if is_host_network(pod) {
        return Ok((network, context.node.addresses().to_vec()));
    }
    let mut state = context.network.state();
    drop(tokio::time::timeout(patience, state.wait_for(|state| *state == NetworkState::Ready)).await);
    let attachment = context.network.attach(&pod_ref.uid, Timestamp::now())?;
    let network = PodNetwork {
        namespace: attachment.namespace,
        pod_ips: attachment.ips.clone(),
        loopback: Some(attachment.loopback),
        ..network
    };
    Ok((network, attachment.ips))
}

fn etc_files(pod: &Pod, pod_ips: &[IpAddr], hostname: &HostName, dns: &Dns) -> EtcFiles {
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    let hosts = match is_host_network(pod) {
        true => hosts_file_of_host(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), aliases),
        false => hosts_file(pod_ips, hostname, aliases),
    };
    EtcFiles { hosts, hostname: format!("{}\n", hostname.kernel), resolv_conf: dns.to_text() }
}

/// Writes projections anew when an object, the pod's own metadata, or a token's time asks for it.
async fn keep(
    context: &Context,
    mut wishes: watch::Receiver<Wish>,
    sandbox: Arc<Sandbox>,
    mut objects: PodObjects,
    values: watch::Sender<Arc<Values>>,
    sender: &mpsc::UnboundedSender<Happened>,
) {
    let mut seen = wishes.borrow().pod.clone();
    let mut not_before = Instant::now();
    loop {
        let refresh = objects.refresh_at().map(|at| until(at).max(not_before));
        tokio::select! {
            () = objects.changed() => {
                values.send_replace(Arc::new(objects.values().await));
                drop(sender.send(Happened::ObjectsChanged));
            }
            changed = wishes.changed() => {
                let pod = wishes.borrow_and_update().pod.clone();
                if changed.is_err() {
                    return;
                }
                // Most changes are of the status, which volumes do not show.
                let same = pod.metadata.labels == seen.metadata.labels
                    && pod.metadata.annotations == seen.metadata.annotations;
                seen = pod;
                if same {
                    continue;
                }
            }
            () = sleep_until(refresh) => {}
        }
        let tokens = objects.tokens(Timestamp::now()).await;
        for (_, error) in &tokens.refused {
            warn!(error = error as &dyn std::error::Error, "a token could not be renewed; trying again");
        }
        // Refused ones are due still.
        if objects.refresh_at().is_some_and(|at| at <= Timestamp::now()) {
            not_before = Instant::now() + TOKEN_RETRY;
        }
        let values = sandbox.values();
        let sources = Sources {
            objects: &values,
            host_ips: &sandbox.host_ips,
            pod_ips: &sandbox.pod_ips,
            allocatable: &context.allocatable(),
            tokens: &tokens.good,
        };
        if let Err(failure) = sandbox.volumes.update(&seen, &sources) {
            // What is there stays: the same as the kubelet does.
            warn!(error = %failure, "a volume could not be brought up to date");
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn until(at: Timestamp) -> Instant {
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    Instant::now() + left.min(Duration::from_secs(86_400))
}

/// Frees all that the pod held here, bundles and logs excepted: they tell of it until its object is gone.
pub(super) async fn take_down(context: &Context, pod_ref: &PodRef) {
    let volumes = PodVolumes::new(context.layout.clone(), pod_ref.uid.clone());
    let removed = tokio::task::spawn_blocking(move || volumes.tear_down()).await;
    if let Ok(Err(error)) = removed {
        warn!(error = error.text(), "the pod's volumes could not be removed");
        context.record(pod_ref, Event::warning("FailedUnmountDevice", error.text()));
    }
    if let Err(error) = context.network.release(&pod_ref.uid, Timestamp::now()) {
        warn!(error = &error as &dyn std::error::Error, "the pod's address could not be freed");
    }
    remove_cgroup(context, &pod_ref.uid).await;
    context.shims.release(&pod_ref.uid);
}

/// The pod's own cgroup; its containers' are gone with them.
pub(super) async fn remove_cgroup(context: &Context, uid: &str) {
    let path = super::start::pod_cgroup(&context.config.cgroup_root, uid);
    let removed = match context.cgroups.group(&path) {
        Ok(group) if group.exists() => group.remove().await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        warn!(error = &error as &dyn std::error::Error, "the pod's cgroup could not be removed");
    }
}
