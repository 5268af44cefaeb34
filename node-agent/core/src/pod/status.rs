//! The status that is told of a pod (kubelet: `kubelet_pods.go` `generateAPIPodStatus`, `status/status_manager.go`).

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::end::{self, End};
use super::observed::ObservedPod;
use super::phase::{self, Phase};
use super::{conditions, containers};
use crate::resources;

/// The complete status. `previous` is the last one told (or the API object's): terminal phases, transition times, restart
/// counts and the states of attempts that are gone are kept from it; conditions owned by others are taken from the pod's
/// own status. Times have whole seconds, so that what comes back from the API server compares equal.
pub fn status(pod: &Pod, observed: &ObservedPod, previous: &PodStatus, now: Timestamp) -> PodStatus {
    let empty = k8s_openapi::api::core::v1::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let end = end::end(pod, observed, previous, now);
    let runs = observed.containers.iter().any(|container| container.exit().is_none());
    let over = end.is_some() && !runs;

    let mut status = base(pod, observed, previous);
    let refused = match &end {
        Some(End::Decided { reason, message }) => Some(((*reason).to_owned(), message.clone())),
        Some(End::Terminal) => previous.reason.clone().zip(previous.message.clone()),
        Some(End::Deleted) | None => None,
    };
    if let Some((reason, message)) = refused.filter(|_| never_began(observed, previous)) {
        // Refused before anything was made: there is nothing more to tell.
        status.phase = previous.phase.clone().filter(|phase| phase == "Succeeded");
        status.phase.get_or_insert_with(|| Phase::Failed.as_str().to_owned());
        status.reason = Some(reason);
        status.message = Some(message);
        status.conditions = Some(conditions::foreign(pod, previous)).filter(|conditions| !conditions.is_empty());
        return status;
    }

    let began = spec.containers.iter().any(|container| observed.latest(&container.name).is_some());
    let look = |goes_on| {
        let sources = containers::Sources { pod, spec, observed, previous, goes_on, over, now };
        let (init_statuses, statuses) = (sources.init_containers(), sources.containers());
        let natural = phase::phase(spec, &init_statuses, &statuses, over, began);
        (init_statuses, statuses, natural)
    };
    let (mut init_statuses, mut statuses, natural) = look(end.is_none());
    if natural.is_terminal() {
        // What will not be started does not wait for anything.
        (init_statuses, statuses, _) = look(false);
    }
    let (phase, why) = settle(natural, end.as_ref(), previous, runs, over);
    status.phase = Some(phase.as_str().to_owned());
    match why {
        Some((reason, message)) => (status.reason, status.message) = (Some(reason), Some(message)),
        None if previous.phase == status.phase => {
            status.reason.clone_from(&previous.reason);
            status.message.clone_from(&previous.message);
        }
        None => {}
    }
    let sources =
        conditions::Sources { pod, observed, previous, phase, init_statuses: &init_statuses, statuses: &statuses, now };
    status.conditions = Some(conditions::conditions(&sources, spec));
    status.init_container_statuses = Some(init_statuses).filter(|statuses| !statuses.is_empty());
    status.container_statuses = Some(statuses);
    status
}

/// Final phases stay; none is told while something runs; what this node decided is a failure.
fn settle(
    natural: Phase,
    end: Option<&End>,
    previous: &PodStatus,
    runs: bool,
    over: bool,
) -> (Phase, Option<(String, String)>) {
    let told = match previous.phase.as_deref() {
        Some("Succeeded") => return (Phase::Succeeded, None),
        Some("Failed") => return (Phase::Failed, None),
        Some("Running") => Phase::Running,
        _ => Phase::Pending,
    };
    if runs {
        return (if natural.is_terminal() { told } else { natural }, None);
    }
    match end {
        Some(End::Decided { reason, message }) => (Phase::Failed, Some(((*reason).to_owned(), message.clone()))),
        // Ended before it was done, without any container's end to go by.
        Some(End::Deleted | End::Terminal) if over && !natural.is_terminal() => (Phase::Failed, None),
        Some(End::Deleted | End::Terminal) | None => (natural, None),
    }
}

/// What does not depend on containers.
fn base(pod: &Pod, observed: &ObservedPod, previous: &PodStatus) -> PodStatus {
    let own_addresses = if is_host_network(pod) { &observed.host_ips } else { &observed.sandbox.pod_ips };
    let text = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>();
    let host_ips = text(&observed.host_ips);
    let pod_ips = text(own_addresses);
    let mut status = PodStatus {
        observed_generation: pod.metadata.generation.max(previous.observed_generation),
        qos_class: Some(resources::qos_class(pod).as_str().to_owned()),
        start_time: Some(time(end::start_time(observed, previous))),
        host_ip: host_ips.first().cloned(),
        host_ips: Some(host_ips.into_iter().map(|ip| HostIP { ip }).collect()),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: Some(pod_ips.into_iter().map(|ip| PodIP { ip }).collect()),
        ephemeral_container_statuses: previous.ephemeral_container_statuses.clone(),
        extended_resource_claim_status: previous.extended_resource_claim_status.clone(),
        node_allocatable_resource_claim_statuses: previous.node_allocatable_resource_claim_statuses.clone(),
        nominated_node_name: previous.nominated_node_name.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        ..PodStatus::default()
    };
    if status.host_ip.is_none() {
        status.host_ip.clone_from(&previous.host_ip);
        status.host_ips.clone_from(&previous.host_ips);
    }
    // A pod that is over keeps the address it had.
    if status.pod_ip.is_none() {
        status.pod_ip.clone_from(&previous.pod_ip);
        status.pod_ips.clone_from(&previous.pod_ips);
    }
    status
}

/// `hostNetwork: true`.
pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

/// No attempt of any container was made, and nothing was told of containers.
fn never_began(observed: &ObservedPod, previous: &PodStatus) -> bool {
    observed.containers.is_empty() && previous.container_statuses.is_none()
}

/// As the API has times: whole seconds.
pub(super) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
