//! Requests, limits, QoS, and what they are to the kernel (kubelet: `cm/helpers_linux.go`, `qos/policy.go`; KEP-753, KEP-2837).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use oci_spec::runtime::{LinuxCpu, LinuxCpuBuilder, LinuxMemory, LinuxMemoryBuilder, LinuxResources};

use crate::pod::is_sidecar;
use crate::quantity::{Amount, InvalidQuantity};

/// Resource name to amount.
pub type ResourceList = BTreeMap<String, Amount>;

/// Names of the resources that this node knows.
pub mod name {
    pub const CPU: &str = "cpu";
    pub const MEMORY: &str = "memory";
    pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
    pub const PODS: &str = "pods";
}

/// CFS period, microseconds.
pub const CPU_PERIOD: u64 = 100_000;
/// Least `cpu.shares`.
pub const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// Least quota, microseconds: what the kernel takes.
const MIN_QUOTA: i64 = 1_000;

/// A quantity in a pod's spec that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {invalid}")]
pub struct ResourceError {
    /// Field path, such as `spec.containers[web].resources.limits[memory]`.
    pub path: String,
    pub invalid: InvalidQuantity,
}

/// `status.qosClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Which half of `resources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Limits,
}

/// Reads a map of quantities; `path` is its field path.
pub fn parse_list(map: Option<&BTreeMap<String, Quantity>>, path: &str) -> Result<ResourceList, ResourceError> {
    map.into_iter()
        .flatten()
        .map(|(name, quantity)| match Amount::try_from(quantity) {
            Ok(amount) => Ok((name.clone(), amount)),
            Err(invalid) => Err(ResourceError { path: format!("{path}[{name}]"), invalid }),
        })
        .collect()
}

/// Writes amounts as the API has them.
pub fn to_quantities(list: &ResourceList) -> BTreeMap<String, Quantity> {
    list.iter().map(|(name, amount)| (name.clone(), (*amount).into())).collect()
}

/// Requests of one container.
pub fn container_requests(container: &Container) -> Result<ResourceList, ResourceError> {
    container_side(container, Side::Requests)
}

/// Limits of one container.
pub fn container_limits(container: &Container) -> Result<ResourceList, ResourceError> {
    container_side(container, Side::Limits)
}

/// What the scheduler counts: containers, init containers and sidecars, pod-level requests, overhead.
pub fn pod_requests(pod: &Pod) -> Result<ResourceList, ResourceError> {
    let Some(spec) = &pod.spec else { return Ok(ResourceList::new()) };
    let mut total = aggregate(spec, Side::Requests)?;
    for (name, amount) in pod_level(spec, Side::Requests)? {
        total.insert(name, amount);
    }
    add(&mut total, &parse_list(spec.overhead.as_ref(), "spec.overhead")?);
    Ok(total)
}

/// As [`pod_requests`], for limits; overhead is added to limits that are there.
pub fn pod_limits(pod: &Pod) -> Result<ResourceList, ResourceError> {
    let Some(spec) = &pod.spec else { return Ok(ResourceList::new()) };
    let mut total = aggregate(spec, Side::Limits)?;
    for (name, amount) in pod_level(spec, Side::Limits)? {
        total.insert(name, amount);
    }
    for (name, amount) in parse_list(spec.overhead.as_ref(), "spec.overhead")? {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit += amount;
        }
    }
    Ok(total)
}

fn container_side(container: &Container, side: Side) -> Result<ResourceList, ResourceError> {
    let path = format!("spec.containers[{}].resources", container.name);
    one_side(container.resources.as_ref(), side, &path)
}

fn pod_level(spec: &PodSpec, side: Side) -> Result<ResourceList, ResourceError> {
    let mut list = one_side(spec.resources.as_ref(), side, "spec.resources")?;
    list.retain(|name, _| name == name::CPU || name == name::MEMORY || name.starts_with("hugepages-"));
    Ok(list)
}

fn one_side(resources: Option<&ResourceRequirements>, side: Side, path: &str) -> Result<ResourceList, ResourceError> {
    match side {
        Side::Requests => parse_list(resources.and_then(|r| r.requests.as_ref()), &format!("{path}.requests")),
        Side::Limits => parse_list(resources.and_then(|r| r.limits.as_ref()), &format!("{path}.limits")),
    }
}

/// The larger of what runs for good (containers and sidecars) and what any init container needs beside the sidecars
/// before it (KEP-753).
fn aggregate(spec: &PodSpec, side: Side) -> Result<ResourceList, ResourceError> {
    let mut running = ResourceList::new();
    for container in &spec.containers {
        add(&mut running, &container_side(container, side)?);
    }
    let mut sidecars = ResourceList::new();
    let mut initializing = ResourceList::new();
    for container in spec.init_containers.iter().flatten() {
        let own = container_side(container, side)?;
        let mut needed = own.clone();
        add(&mut needed, &sidecars);
        raise(&mut initializing, &needed);
        if is_sidecar(container) {
            add(&mut running, &own);
            sidecars = needed;
        }
    }
    raise(&mut running, &initializing);
    Ok(running)
}

fn add(total: &mut ResourceList, more: &ResourceList) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_default() += *amount;
    }
}

fn raise(total: &mut ResourceList, least: &ResourceList) {
    for (name, amount) in least {
        let entry = total.entry(name.clone()).or_insert(*amount);
        if *entry < *amount {
            *entry = *amount;
        }
    }
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

/// A class once told in the status is kept. Quantities that are none count as nothing.
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        Some(_) | None => pod.spec.as_ref().map_or(QosClass::BestEffort, compute_qos_class),
    }
}

fn compute_qos_class(spec: &PodSpec) -> QosClass {
    let counted = |resources: Option<&ResourceRequirements>, side| {
        let mut list = one_side(resources, side, "").unwrap_or_default();
        list.retain(|name, amount| (name == name::CPU || name == name::MEMORY) && amount.is_positive());
        list
    };
    let mut requests = ResourceList::new();
    let mut limits = ResourceList::new();
    let mut all_limited = true;
    let parts: Vec<_> = match &spec.resources {
        Some(resources) => vec![Some(resources)],
        None => all_containers(spec).map(|container| container.resources.as_ref()).collect(),
    };
    for part in parts {
        let limited = counted(part, Side::Limits);
        all_limited &= limited.len() == 2;
        add(&mut requests, &counted(part, Side::Requests));
        add(&mut limits, &limited);
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if all_limited && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// `cpu.shares` of a request in thousandths of a cpu.
pub fn cpu_shares(milli_cpu: i64) -> u64 {
    let milli_cpu = u64::try_from(milli_cpu).unwrap_or(0);
    (milli_cpu.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// `cpu.cfs_quota_us` of a limit in thousandths of a cpu; `None` without a limit.
pub fn cpu_quota(milli_cpu: i64) -> Option<i64> {
    (milli_cpu > 0).then(|| milli_cpu.saturating_mul(CPU_PERIOD as i64 / 1000).max(MIN_QUOTA))
}

/// Cgroup settings of the pod's own cgroup. A limit is set only where every container has one, or the pod itself.
pub fn pod_linux_resources(pod: &Pod) -> Result<LinuxResources, ResourceError> {
    let Some(spec) = &pod.spec else { return Ok(linux_resources(MIN_SHARES, None, None)) };
    let requests = pod_requests(pod)?;
    let limits = pod_limits(pod)?;
    if qos_class(pod) == QosClass::BestEffort {
        return Ok(linux_resources(MIN_SHARES, None, None));
    }
    let shares = cpu_shares(milli(&requests, name::CPU));
    let quota = all_limited(spec, name::CPU)?.then(|| cpu_quota(milli(&limits, name::CPU))).flatten();
    let memory = all_limited(spec, name::MEMORY)?.then(|| whole(&limits, name::MEMORY)).flatten();
    Ok(linux_resources(shares, quota, memory))
}

fn all_limited(spec: &PodSpec, name: &str) -> Result<bool, ResourceError> {
    let limited = |list: ResourceList| list.get(name).is_some_and(|amount| !amount.is_zero());
    if limited(pod_level(spec, Side::Limits)?) {
        return Ok(true);
    }
    for container in all_containers(spec) {
        if !limited(container_side(container, Side::Limits)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Cgroup settings of one container: shares from its cpu request (its limit, if it has no request), quota and memory
/// limit if it has them.
pub fn container_linux_resources(container: &Container) -> Result<LinuxResources, ResourceError> {
    let requests = container_requests(container)?;
    let limits = container_limits(container)?;
    let milli_limit = milli(&limits, name::CPU);
    let milli_request = if requests.contains_key(name::CPU) { milli(&requests, name::CPU) } else { milli_limit };
    Ok(linux_resources(cpu_shares(milli_request), cpu_quota(milli_limit), whole(&limits, name::MEMORY)))
}

fn milli(list: &ResourceList, name: &str) -> i64 {
    list.get(name).map_or(0, Amount::milli_value)
}

fn whole(list: &ResourceList, name: &str) -> Option<i64> {
    list.get(name).map(Amount::value).filter(|value| *value > 0)
}

fn linux_resources(shares: u64, quota: Option<i64>, memory: Option<i64>) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_cpu(Some(cpu(shares, quota)));
    resources.set_memory(memory.map(memory_limit));
    resources
}

fn cpu(shares: u64, quota: Option<i64>) -> LinuxCpu {
    let builder = LinuxCpuBuilder::default().shares(shares);
    match quota {
        Some(quota) => builder.quota(quota).period(CPU_PERIOD),
        None => builder,
    }
    .build()
    .expect("every field of a cpu setting is optional")
}

fn memory_limit(bytes: i64) -> LinuxMemory {
    // No swap beside it: the limit is where the container ends.
    LinuxMemoryBuilder::default().limit(bytes).swap(bytes).build().expect("every field of a memory setting is optional")
}

/// `oom_score_adj` of a container's process, from the QoS class and its share of the node's memory (bytes): who asked
/// for more is spared longer. A sidecar is spared at least as long as the pod's smallest container.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i32 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    let Some(spec) = &pod.spec else { return BEST_EFFORT as i32 };
    if spec.priority_class_name.as_deref() == Some("system-node-critical") {
        return GUARANTEED as i32;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => return GUARANTEED as i32,
        QosClass::BestEffort => return BEST_EFFORT as i32,
        QosClass::Burstable => {}
    }
    let request = |container: &Container| {
        container_requests(container).ok().and_then(|list| whole(&list, name::MEMORY)).unwrap_or(0)
    };
    let unclaimed = unclaimed_pod_memory(spec);
    let score = |bytes: i64| {
        1000 - i64::try_from(1000 * (i128::from(bytes) + i128::from(unclaimed)) / i128::from(node_memory.max(1)))
            .unwrap_or(1000)
    };
    let mut adjust = score(request(container));
    if is_sidecar(container) {
        let smallest = spec.containers.iter().map(request).min().unwrap_or(0);
        adjust = adjust.min(score(smallest));
    }
    let adjust = if adjust == BEST_EFFORT { adjust - 1 } else { adjust };
    adjust.clamp(1000 + GUARANTEED, BEST_EFFORT) as i32
}

/// Memory that the pod asks for beyond what its containers do, an equal part for each of them (KEP-2837).
fn unclaimed_pod_memory(spec: &PodSpec) -> i64 {
    let memory = |list: Result<ResourceList, _>| list.ok().and_then(|list| whole(&list, name::MEMORY)).unwrap_or(0);
    let unclaimed = memory(pod_level(spec, Side::Requests)) - memory(aggregate(spec, Side::Requests));
    unclaimed.max(0) / i64::try_from(all_containers(spec).count()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests;
