//! Gathers what the Node object is made from.

use samara_core::node::{Health, NodeFacts};
use samara_core::quantity::Amount;
use samara_core::resources::ResourceList;

use super::own::Reports;
use super::{EvictionHard, HostError, NodeConfig, OwnNode, host};

/// Measured now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) cpus: u64,
    pub(super) memory: host::Memory,
    pub(super) disk: host::Disk,
    pub(super) pids: host::Pids,
}

/// Everything the status tells.
pub(super) fn gather(node: &OwnNode, reports: &Reports) -> Result<NodeFacts, HostError> {
    let machine = node.machine();
    let measured =
        Measured { cpus: machine.cpus(), memory: machine.memory()?, disk: machine.disk()?, pids: machine.pids()? };
    let config = node.config();
    Ok(NodeFacts {
        name: node.name().to_owned(),
        hostname: config.hostname.clone(),
        addresses: node.addresses().to_vec(),
        provider_id: config.provider_id.clone(),
        capacity: capacity(config, &measured),
        reserved: reserved(config, &measured),
        system: machine.system_info()?,
        labels: config.labels.clone(),
        os_label: config.os_label.clone(),
        arch_label: config.arch_label.clone(),
        taints: config.taints.clone(),
        unschedulable: config.unschedulable,
        port: config.port,
        images: reports.images.to_vec(),
        max_images: config.max_images,
        declared_features: config.declared_features.clone(),
        runtime_handlers: config.runtime_handlers.clone(),
        health: health(config, &measured, reports),
    })
}

fn capacity(config: &NodeConfig, measured: &Measured) -> ResourceList {
    let per_core = u64::from(config.pods_per_core).saturating_mul(measured.cpus);
    let pods = u64::from(config.max_pods).min(if per_core == 0 { u64::MAX } else { per_core });
    ResourceList::from([
        ("cpu".into(), Amount::units(signed(measured.cpus))),
        ("memory".into(), Amount::bytes(signed(measured.memory.total))),
        ("ephemeral-storage".into(), Amount::bytes(signed(measured.disk.total))),
        ("pods".into(), Amount::units(signed(pods))),
    ])
}

/// What is kept for the system, and what must stay free (kubelet: `GetNodeAllocatableReservation`).
fn reserved(config: &NodeConfig, measured: &Measured) -> ResourceList {
    let mut reserved = config.reserved.clone();
    let EvictionHard { memory_available, nodefs_available, .. } = config.eviction_hard;
    for (resource, more) in [
        ("memory", memory_available.of(measured.memory.total)),
        ("ephemeral-storage", nodefs_available.of(measured.disk.total)),
    ] {
        let configured = reserved.get(resource).map_or(0, Amount::value);
        reserved.insert(resource.into(), Amount::bytes(configured.saturating_add(signed(more))));
    }
    reserved
}

fn health(config: &NodeConfig, measured: &Measured, reports: &Reports) -> Health {
    let hard = config.eviction_hard;
    Health {
        not_ready: reports.troubles.iter().map(|(part, trouble)| format!("{part}: {trouble}")).collect(),
        memory_pressure: hard.memory_available.is_crossed(measured.memory.available, measured.memory.total),
        disk_pressure: hard.nodefs_available.is_crossed(measured.disk.available, measured.disk.total)
            || hard.imagefs_available.is_crossed(measured.disk.available, measured.disk.total)
            || hard.nodefs_inodes_free.is_crossed(measured.disk.inodes_free, measured.disk.inodes),
        pid_pressure: hard
            .pid_available
            .is_crossed(measured.pids.max.saturating_sub(measured.pids.used), measured.pids.max),
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        Measured {
            cpus: 4,
            memory: host::Memory { total: 8 << 30, available: 4 << 30, ..Default::default() },
            disk: host::Disk { total: 1000 << 20, available: 500 << 20, inodes: 1000, inodes_free: 900 },
            pids: host::Pids { max: 1000, used: 100 },
        }
    }

    fn values(list: &ResourceList) -> Vec<(&str, i64)> {
        list.iter().map(|(name, amount)| (name.as_str(), amount.value())).collect()
    }

    #[test]
    fn pods_per_core_can_only_lower_max_pods() {
        for (per_core, expected) in [(0, 110), (10, 40), (1000, 110)] {
            let config = NodeConfig { pods_per_core: per_core, ..NodeConfig::default() };
            assert_eq!(capacity(&config, &measured())["pods"].value(), expected, "{per_core} per core");
        }
    }

    #[test]
    fn what_must_stay_free_is_reserved_beside_what_is_configured() {
        let configured =
            ResourceList::from([("cpu".into(), Amount::units(1)), ("memory".into(), Amount::bytes(1 << 30))]);
        let config = NodeConfig { reserved: configured, ..NodeConfig::default() };
        let expected = [("cpu", 1), ("ephemeral-storage", 100 << 20), ("memory", (1 << 30) + (100 << 20))];
        assert_eq!(values(&reserved(&config, &measured())), expected);
    }

    #[test]
    fn pressure_is_told_of_each_resource_alone() {
        let base = measured();
        let config = NodeConfig::default();
        let expect = |measured: &Measured| {
            let health = health(&config, measured, &Reports::default());
            (health.memory_pressure, health.disk_pressure, health.pid_pressure)
        };
        assert_eq!(expect(&base), (false, false, false));
        let memory = host::Memory { available: 99 << 20, ..base.memory };
        assert_eq!(expect(&Measured { memory, ..base }), (true, false, false));
        let disk = host::Disk { available: 149 << 20, ..base.disk };
        assert_eq!(expect(&Measured { disk, ..base }), (false, true, false), "images need 15 %");
        let disk = host::Disk { inodes_free: 49, ..base.disk };
        assert_eq!(expect(&Measured { disk, ..base }), (false, true, false));
        let disk = host::Disk { inodes: 0, inodes_free: 0, ..base.disk };
        assert_eq!(expect(&Measured { disk, ..base }), (false, false, false), "a file system without inode limits");
    }

    #[test]
    fn a_part_in_trouble_is_named() {
        let reports = Reports { troubles: [("runtime", "no front answers".to_owned())].into(), ..Reports::default() };
        let config = NodeConfig::default();
        assert_eq!(health(&config, &measured(), &reports).not_ready, ["runtime: no front answers"]);
    }
}
