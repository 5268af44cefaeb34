//! `/stats/summary`, as JSON. Not told: network (pods share an interface).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::usage::Usage;
use super::{Cpu, Extent, Measured, OfContainer, OfPod, OfVolume, Used};
use crate::node::Disk;

pub(super) fn summary(node_name: &str, measured: &Measured, extent: Extent) -> Value {
    let (at, node) = (measured.at, &measured.node);
    let taken = node.memory.total.saturating_sub(node.memory.available);
    let mut of_node = object(json!({
        "nodeName": node_name,
        "cpu": cpu(at, node.cpu),
        "memory": {"time": at, "availableBytes": node.memory.available, "usageBytes": taken, "workingSetBytes": taken},
    }));
    of_node.extend(node.booted_at.map(|at| ("startTime".to_owned(), json!(at))));
    if extent == Extent::All {
        of_node.insert("fs".into(), Value::Object(disk(at, &node.disk, None)));
        of_node.insert("runtime".into(), json!({"imageFs": disk(at, &node.disk, None)}));
        of_node.insert("rlimit".into(), json!({"time": at, "maxpid": node.pids.max, "curproc": node.pids.used}));
    }
    let pods: Vec<Value> = measured.pods.iter().map(|pod| of_pod(at, pod, &node.disk, extent)).collect();
    json!({"node": of_node, "pods": pods})
}

fn of_pod(at: Timestamp, pod: &OfPod, fs: &Disk, extent: Extent) -> Value {
    let containers: Vec<Value> =
        pod.containers.iter().map(|container| of_container(at, container, fs, extent)).collect();
    let mut told = object(json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": pod.started_at,
        "containers": containers,
        "cpu": cpu(at, pod.used.cpu),
        "memory": memory(at, &pod.used),
    }));
    if extent == Extent::All {
        told.insert("process_stats".into(), json!({"process_count": pod.processes}));
        told.insert("ephemeral-storage".into(), Value::Object(disk(at, fs, Some(ephemeral(pod)))));
        let volumes: Vec<Value> = pod.volumes.iter().map(|volume| of_volume(at, volume)).collect();
        if !volumes.is_empty() {
            told.insert("volume".into(), Value::Array(volumes));
        }
    }
    Value::Object(told)
}

/// What counts against the node's disk: writable layers, logs, and volumes that are there.
fn ephemeral(pod: &OfPod) -> Usage {
    let containers = pod.containers.iter().flat_map(|one| [Some(one.logs), one.rootfs]).flatten();
    let volumes = pod.volumes.iter().filter(|volume| volume.on_disk).map(|volume| volume.used);
    containers.chain(volumes).fold(Usage::default(), Usage::plus)
}

fn of_volume(at: Timestamp, volume: &OfVolume) -> Value {
    let mut told = disk(at, &volume.disk, Some(volume.used));
    told.insert("name".into(), json!(volume.name));
    Value::Object(told)
}

fn of_container(at: Timestamp, container: &OfContainer, fs: &Disk, extent: Extent) -> Value {
    let mut told = object(json!({
        "name": container.name,
        "startTime": container.started_at,
        "cpu": cpu(at, container.used.cpu),
        "memory": memory(at, &container.used),
    }));
    if extent == Extent::All {
        told.insert("logs".into(), Value::Object(disk(at, fs, Some(container.logs))));
        if let Some(used) = container.rootfs {
            told.insert("rootfs".into(), Value::Object(disk(at, fs, Some(used))));
        }
    }
    Value::Object(told)
}

fn cpu(at: Timestamp, cpu: Cpu) -> Value {
    let mut told = object(json!({"time": at, "usageCoreNanoSeconds": cpu.nanos}));
    told.extend(cpu.nano_cores.map(|cores| ("usageNanoCores".to_owned(), json!(cores))));
    Value::Object(told)
}

fn memory(at: Timestamp, used: &Used) -> Value {
    let mut told = object(json!({
        "time": at,
        "usageBytes": used.memory,
        "workingSetBytes": used.working_set,
        "rssBytes": used.rss,
        "pageFaults": used.page_faults,
        "majorPageFaults": used.major_page_faults,
    }));
    told.extend(used.available.map(|bytes| ("availableBytes".to_owned(), json!(bytes))));
    Value::Object(told)
}

/// `used`: of something on it; else of all.
fn disk(at: Timestamp, disk: &Disk, used: Option<Usage>) -> Map<String, Value> {
    let taken = Usage {
        bytes: disk.total.saturating_sub(disk.available),
        inodes: disk.inodes.saturating_sub(disk.inodes_free),
    };
    let used = used.unwrap_or(taken);
    object(json!({
        "time": at,
        "availableBytes": disk.available,
        "capacityBytes": disk.total,
        "usedBytes": used.bytes,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": used.inodes,
    }))
}

/// Without what is not known.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::measured;
    use super::*;

    #[test]
    fn the_summary_is_in_the_kubelets_form() {
        let at = "2026-01-02T03:04:05Z";
        let fs = json!({"time": at, "availableBytes": 2000, "capacityBytes": 5000, "usedBytes": 3000, "inodesFree": 60, "inodes": 100, "inodesUsed": 40});
        let on_disk = |bytes: u64, inodes: u64| json!({"time": at, "availableBytes": 2000, "capacityBytes": 5000, "usedBytes": bytes, "inodesFree": 60, "inodes": 100, "inodesUsed": inodes});
        let mut scratch = on_disk(30, 2);
        scratch["name"] = json!("scratch");
        let memory = |bytes: u64| {
            json!({"time": at, "availableBytes": 1 << 20, "usageBytes": bytes + 4096, "workingSetBytes": bytes, "rssBytes": bytes / 2,
                "pageFaults": 7, "majorPageFaults": 1})
        };
        let expected = json!({
            "node": {
                "nodeName": "n1",
                "startTime": "2026-01-01T00:00:00Z",
                "cpu": {"time": at, "usageCoreNanoSeconds": 1_500_000_000},
                "memory": {"time": at, "availableBytes": 400, "usageBytes": 600, "workingSetBytes": 600},
                "fs": fs,
                "runtime": {"imageFs": fs},
                "rlimit": {"time": at, "maxpid": 100, "curproc": 10},
            },
            "pods": [{
                "podRef": {"name": "web", "namespace": "default", "uid": "uid-1"},
                "startTime": "2026-01-02T03:00:00Z",
                "containers": [{
                    "name": "app",
                    "startTime": "2026-01-02T03:00:01.5Z",
                    "cpu": {"time": at, "usageNanoCores": 2000, "usageCoreNanoSeconds": 2_000_000},
                    "memory": memory(8192),
                    "logs": on_disk(42, 2),
                    "rootfs": on_disk(100, 4),
                }],
                "cpu": {"time": at, "usageNanoCores": 3000, "usageCoreNanoSeconds": 3_000_000},
                "memory": memory(16384),
                "process_stats": {"process_count": 1},
                "ephemeral-storage": on_disk(172, 8),
                "volume": [scratch],
            }],
        });
        assert_eq!(summary("n1", &measured(), Extent::All), expected);
    }

    #[test]
    fn cpu_and_memory_only_is_nothing_else() {
        let told = summary("n1", &measured(), Extent::CpuAndMemory);
        for absent in [
            "/node/fs",
            "/node/runtime",
            "/pods/0/process_stats",
            "/pods/0/volume",
            "/pods/0/ephemeral-storage",
            "/pods/0/containers/0/rootfs",
            "/pods/0/containers/0/logs",
        ] {
            assert_eq!(told.pointer(absent), None, "{absent}");
        }
        assert!(told.pointer("/pods/0/containers/0/memory/workingSetBytes").is_some());
    }
}
