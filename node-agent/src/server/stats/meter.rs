//! Measures: cgroups of pods and containers, `/proc` for the node.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use samara_shim_client::cgroup::{CgroupError, Cgroups, Stats};
use tokio::time::Instant;

use super::super::{Process, Workloads};
use super::rate::Sample;
use super::usage::Walks;
use super::{Cpu, Extent, Measured, OfContainer, OfNode, OfPod, OfVolume, Used, host};
use crate::node::{HostError, Machine};
use crate::volumes::{Layout, PodVolumes, is_tmpfs};

/// What a running container has used at the least: a microsecond, and a page.
const LEAST_NANOS: u64 = 1000;
const LEAST_BYTES: u64 = 4096;

/// The node itself cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeterError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("reading /proc/stat")]
    Stat(#[source] std::io::Error),
}

/// Measures on request, and remembers the last look for the rates.
#[derive(Debug)]
pub struct Meter {
    cgroups: Cgroups,
    root: String,
    machine: Machine,
    layout: Arc<Layout>,
    walks: Walks,
    samples: Mutex<HashMap<String, Sample>>,
}

/// One round: what was seen, so that the rest can be forgotten.
struct Round<'a> {
    meter: &'a Meter,
    now: Instant,
    extent: Extent,
    samples: HashMap<String, Sample>,
}

impl Meter {
    /// `cgroup_root` is that of the pods.
    pub fn new(cgroup_root: &str, machine: Machine, layout: Layout) -> Result<Self, CgroupError> {
        Ok(Self {
            cgroups: Cgroups::detect()?,
            root: cgroup_root.to_owned(),
            machine,
            layout: Arc::new(layout),
            walks: Walks::default(),
            samples: Mutex::default(),
        })
    }

    pub(super) fn measure(&self, workloads: &dyn Workloads, extent: Extent) -> Result<Measured, MeterError> {
        let mut round = Round { meter: self, now: Instant::now(), extent, samples: HashMap::new() };
        let stat = host::stat().map_err(MeterError::Stat)?;
        let node = OfNode {
            booted_at: stat.booted_at,
            cpu: round.cpu("", stat.busy_nanos),
            memory: self.machine.memory()?,
            disk: self.machine.disk()?,
            pids: self.machine.pids()?,
        };
        let pods = workloads.pods().iter().filter_map(|pod| round.pod(pod, workloads)).collect();
        *self.samples.lock().unwrap_or_else(PoisonError::into_inner) = round.samples;
        Ok(Measured { at: Timestamp::now(), node, pods })
    }

    fn stats(&self, path: &str) -> Option<Stats> {
        let stats = self.cgroups.group(path).and_then(|group| group.stats());
        stats.inspect_err(|error| tracing::debug!(path, %error, "measuring a cgroup")).ok()
    }
}

impl Round<'_> {
    fn pod(&mut self, pod: &Pod, workloads: &dyn Workloads) -> Option<OfPod> {
        let uid = pod.metadata.uid.clone()?;
        let cgroup = format!("{}/pod{uid}", self.meter.root);
        let spec = pod.spec.as_ref()?;
        let names = spec.init_containers.iter().flatten().chain(&spec.containers).map(|container| &container.name);
        let mut containers = Vec::new();
        for name in names {
            let Some(process) = workloads.process(&uid, name) else { continue };
            containers.extend(self.container(&cgroup, pod, name, &process));
        }
        if containers.is_empty() {
            return None;
        }
        let stats = self.meter.stats(&cgroup)?;
        let mut used = self.used(&cgroup, &stats);
        // An old kernel counts a cgroup's memory without that of the cgroups below.
        let sum = |of: fn(&Used) -> u64| containers.iter().map(|container| of(&container.used)).sum::<u64>();
        used.memory = used.memory.max(sum(|used| used.memory));
        used.working_set = used.working_set.max(sum(|used| used.working_set));
        used.rss = used.rss.max(sum(|used| used.rss));
        Some(OfPod {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid,
            started_at: pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            used,
            volumes: self.volumes(pod),
            cgroup,
            stats,
            processes: stats.pids.current.max(containers.len() as u64),
            containers,
        })
    }

    fn container(&mut self, pod_cgroup: &str, pod: &Pod, name: &str, process: &Process) -> Option<OfContainer> {
        let cgroup = format!("{pod_cgroup}/{}", process.id);
        let stats = self.meter.stats(&cgroup)?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let own = self.meter.layout.container(uid, name, process.attempt);
        let usage = |dir: &Path| self.meter.walks.usage(dir, self.now);
        // An image's root is written to above its layers, an empty one where it is.
        let rootfs = (self.extent == Extent::All).then(|| usage(&own.join("upper")).plus(usage(&own.join("rootfs"))));
        let logs = (self.extent == Extent::All).then(|| process.log.parent().map(usage)).flatten();
        Some(OfContainer {
            name: name.to_owned(),
            started_at: started_at(pod, name),
            used: self.used(&cgroup, &stats),
            id: process.id.clone(),
            image: image(pod, name),
            stats,
            logs: logs.unwrap_or_default(),
            rootfs,
        })
    }

    fn volumes(&self, pod: &Pod) -> Vec<OfVolume> {
        if self.extent != Extent::All {
            return Vec::new();
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let volumes = PodVolumes::new(self.meter.layout.clone(), uid.into()).own(pod);
        let measured = volumes.into_iter().filter_map(|(name, path)| {
            let disk = crate::node::disk_of(&path).ok()?;
            let on_disk = path.starts_with(self.meter.layout.pods()) && !is_tmpfs(&path);
            Some(OfVolume { name, disk, used: self.meter.walks.usage(&path, self.now), on_disk })
        });
        measured.collect()
    }

    fn used(&mut self, cgroup: &str, stats: &Stats) -> Used {
        let memory = &stats.memory;
        Used {
            cpu: self.cpu(cgroup, stats.cpu.usage_nanos),
            memory: memory.usage.max(LEAST_BYTES),
            working_set: memory.working_set().max(LEAST_BYTES),
            rss: memory.rss,
            available: memory.available(),
            page_faults: memory.page_faults,
            major_page_faults: memory.major_page_faults,
        }
    }

    fn cpu(&mut self, key: &str, nanos: u64) -> Cpu {
        let previous = self.meter.samples.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        let sample = Sample::next(previous, self.now, nanos);
        self.samples.insert(key.to_owned(), sample);
        Cpu { nanos: nanos.max(LEAST_NANOS), nano_cores: sample.per_second }
    }
}

fn started_at(pod: &Pod, name: &str) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses];
    let of = |status: &&ContainerStatus| status.name == name;
    let running = all.into_iter().flatten().flatten().find(of)?.state.as_ref()?.running.as_ref()?;
    Some(running.started_at.as_ref()?.0)
}

/// As the status tells it.
fn image(pod: &Pod, name: &str) -> String {
    let statuses = pod.status.iter().flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let mut statuses = statuses.flatten().flatten();
    statuses.find(|status| status.name == name).map(|status| status.image.clone()).unwrap_or_default()
}
