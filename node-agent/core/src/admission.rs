//! May a pod run on this node? (kubelet: `lifecycle/predicate.go`; scheduler: `AdmissionCheck`).

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, Taint, Toleration};

use crate::reasons::pod as reason;
use crate::resources::{self, ResourceList, name};

mod affinity;
mod unsupported;

pub use unsupported::unsupported;

/// The pod is told Failed with these (`status.reason`, `status.message`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// One of [`crate::reasons::pod`].
    pub reason: &'static str,
    /// Without the prefix `Pod was rejected: `, which [`Rejection::status_message`] adds.
    pub message: String,
}

impl Rejection {
    /// `status.message`.
    pub fn status_message(&self) -> String {
        format!("Pod was rejected: {}", self.message)
    }

    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn predicate(name: &'static str, why: &str) -> Self {
        Self { reason: name, message: format!("Predicate {name} failed: {why}") }
    }

    fn insufficient(reason: &'static str, resource: &str, requested: i64, used: i64, capacity: i64) -> Self {
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        Self { reason, message }
    }
}

/// Only the kubelet's own reasons: a Failed pod is replaced by its controller at once. `others` are the pods that this
/// node has admitted and that are not in a terminal phase, without `pod` itself; `node` has labels, taints and allocatable.
pub fn admit<'a>(pod: &Pod, node: &Node, others: impl IntoIterator<Item = &'a Pod>) -> Result<(), Rejection> {
    let claims: Vec<Claim> = others.into_iter().map(Claim::of).collect();
    admit_beside(pod, node, &claims)
}

/// What a pod takes of its node: found out once, since it is asked for with every pod that comes after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Thousandths of a cpu, bytes, bytes: in the order of [`COUNTED`].
    amounts: [i64; 3],
    /// Address, protocol, port.
    host_ports: Vec<(String, String, i32)>,
}

/// Resources that are counted, and the reasons for having too little of them.
const COUNTED: [(&str, &str); 3] = [
    (reason::OUT_OF_CPU, name::CPU),
    (reason::OUT_OF_MEMORY, name::MEMORY),
    (reason::OUT_OF_EPHEMERAL_STORAGE, name::EPHEMERAL_STORAGE),
];

impl Claim {
    /// A pod that cannot say in numbers what it wants takes nothing.
    pub fn of(pod: &Pod) -> Self {
        Self {
            amounts: amounts(&resources::pod_requests(pod).unwrap_or_default()),
            host_ports: pod.spec.as_ref().map(host_ports).unwrap_or_default(),
        }
    }
}

/// As [`admit`], beside pods of which only the claims are known.
pub fn admit_beside<'a>(pod: &Pod, node: &Node, claims: impl IntoIterator<Item = &'a Claim>) -> Result<(), Rejection> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    operating_system(pod, spec, node)?;
    supplemental_groups(spec, node)?;
    let others: Vec<_> = claims.into_iter().collect();
    fits(pod, node, &others)?;
    if !affinity::matches(spec, node) {
        return Err(Rejection::predicate(reason::NODE_AFFINITY, "node(s) didn't match Pod's node affinity/selector"));
    }
    let node_name = node.metadata.name.as_deref().unwrap_or_default();
    if spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && name != node_name) {
        return Err(Rejection::predicate(reason::NODE_NAME, "node(s) didn't match the requested node name"));
    }
    if host_ports_conflict(spec, &others) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Err(Rejection::predicate(reason::NODE_PORTS, why));
    }
    tolerates(spec, node)
}

fn operating_system(pod: &Pod, spec: &PodSpec, node: &Node) -> Result<(), Rejection> {
    const OS: &str = "kubernetes.io/os";
    let label = |labels: Option<&std::collections::BTreeMap<String, String>>| labels.and_then(|l| l.get(OS)).cloned();
    let node_os = label(node.metadata.labels.as_ref());
    if let Some(wanted) = label(pod.metadata.labels.as_ref())
        && Some(&wanted) != node_os.as_ref()
    {
        return Err(Rejection::new(
            reason::POD_OS_SELECTOR_NODE_LABEL_DOES_NOT_MATCH,
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ));
    }
    let host_os = node.status.as_ref().and_then(|status| Some(status.node_info.as_ref()?.operating_system.clone()));
    match &spec.os {
        Some(os) if Some(&os.name) != node_os.as_ref() && Some(&os.name) != host_os.as_ref() => Err(Rejection::new(
            reason::POD_OS_NOT_SUPPORTED,
            "Failed to admit pod as the OS field doesn't match node OS",
        )),
        Some(_) | None => Ok(()),
    }
}

fn supplemental_groups(spec: &PodSpec, node: &Node) -> Result<(), Rejection> {
    let policy = spec.security_context.as_ref().and_then(|context| context.supplemental_groups_policy.as_deref());
    let features = node.status.as_ref().and_then(|status| status.features.as_ref());
    let supported = features.and_then(|features| features.supplemental_groups_policy) == Some(true);
    if policy == Some("Strict") && !supported {
        return Err(Rejection::new(
            reason::SUPPLEMENTAL_GROUPS_POLICY_NOT_SUPPORTED,
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        ));
    }
    Ok(())
}

fn fits(pod: &Pod, node: &Node, others: &[&Claim]) -> Result<(), Rejection> {
    let unexpected = |error: &dyn std::fmt::Display| {
        Rejection::new(reason::UNEXPECTED_ADMISSION_ERROR, format!("{error}, which is unexpected."))
    };
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let allocatable = resources::parse_list(allocatable, "status.allocatable").map_err(|error| unexpected(&error))?;
    let requested = resources::pod_requests(pod).map_err(|error| unexpected(&error))?;
    let room = allocatable.get(name::PODS).map_or(0, |amount| amount.value());
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= room {
        return Err(Rejection::insufficient(reason::OUT_OF_PODS, name::PODS, 1, count, room));
    }
    let (requested, allocatable) = (amounts(&requested), amounts(&allocatable));
    for (index, (reason, resource)) in COUNTED.into_iter().enumerate() {
        let (wanted, capacity) = (requested[index], allocatable[index]);
        let used = others.iter().map(|other| other.amounts[index]).fold(0, i64::saturating_add);
        if wanted > 0 && wanted > capacity.saturating_sub(used) {
            return Err(Rejection::insufficient(reason, resource, wanted, used, capacity));
        }
    }
    Ok(())
}

fn amounts(list: &ResourceList) -> [i64; 3] {
    COUNTED.map(|(_, resource)| {
        list.get(resource).map_or(0, |amount| match resource {
            name::CPU => amount.milli_value(),
            _ => amount.value(),
        })
    })
}

/// Two pods cannot have the same port of the same protocol on the same (or any) address of the host.
fn host_ports_conflict(spec: &PodSpec, others: &[&Claim]) -> bool {
    host_ports(spec).iter().any(|(ip, protocol, port)| {
        others.iter().flat_map(|other| &other.host_ports).any(|(other_ip, other_protocol, other_port)| {
            let same_address = ip == other_ip || ip == "0.0.0.0" || other_ip == "0.0.0.0";
            port == other_port && protocol == other_protocol && same_address
        })
    })
}

fn host_ports(spec: &PodSpec) -> Vec<(String, String, i32)> {
    let lasting = spec.init_containers.iter().flatten().filter(|container| crate::pod::is_sidecar(container));
    let ports = lasting.chain(&spec.containers).flat_map(|container: &Container| container.ports.iter().flatten());
    let text = |value: &Option<String>, default: &str| {
        value.clone().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            Some((text(&port.host_ip, "0.0.0.0"), text(&port.protocol, "TCP"), number))
        })
        .collect()
}

/// Only `NoExecute` taints matter to a node; the scheduler saw to the others.
fn tolerates(spec: &PodSpec, node: &Node) -> Result<(), Rejection> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let untolerated = taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .any(|taint| !tolerations.iter().any(|toleration| tolerated(toleration, taint)));
    if untolerated {
        let why = "node(s) had taints that the pod didn't tolerate";
        return Err(Rejection::predicate(reason::TAINT_TOLERATION, why));
    }
    Ok(())
}

fn tolerated(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
