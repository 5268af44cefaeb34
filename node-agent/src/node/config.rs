//! What our Node object says beyond what the host tells.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use samara_core::resources::ResourceList;

/// Settings of the Node object.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// `--node-ip`: addresses to report, primary first. Empty: those with which the default route is reached.
    pub ips: Vec<IpAddr>,
    /// `--hostname-override`, else the host's.
    pub hostname: String,
    /// `--node-labels`, over our defaults.
    pub labels: BTreeMap<String, String>,
    /// `kubernetes.io/os`. Default `wasi`.
    pub os_label: String,
    /// `kubernetes.io/arch`. Default `wasm32`.
    pub arch_label: String,
    /// `--register-with-taints`: set when the Node is created, never again.
    pub taints: Vec<Taint>,
    /// `registerNode`: false waits until somebody else created the Node. Default true.
    pub register: bool,
    /// `--register-schedulable=false`: the Node is created cordoned.
    pub unschedulable: bool,
    /// `--provider-id`.
    pub provider_id: Option<String>,
    /// `--pod-cidr`: overrides what the control plane assigns to the Node.
    pub pod_cidr: Option<String>,
    /// `maxPods`. Default 110.
    pub max_pods: u32,
    /// `podsPerCore`; 0: no such limit.
    pub pods_per_core: u32,
    /// `kubeReserved` and `systemReserved`, added up.
    pub reserved: ResourceList,
    /// `evictionHard`.
    pub eviction_hard: EvictionHard,
    /// Port of the node's API. Default 10250.
    pub port: u16,
    /// `nodeStatusUpdateFrequency`: how often the status is computed. Default 10 s.
    pub status_update_every: Duration,
    /// `nodeStatusReportFrequency`: how often it is posted when nothing changed. Default 5 min.
    pub status_report_every: Duration,
    /// `evictionPressureTransitionPeriod`: how long pressure is told after it was last seen. Default 5 min.
    pub pressure_period: Duration,
    /// `nodeLeaseDurationSeconds`. Default 40; renewed four times in it.
    pub lease_seconds: i32,
    /// `nodeStatusMaxImages`. Default 50; `None`: all.
    pub max_images: Option<usize>,
    /// `status.declaredFeatures`: only what works.
    pub declared_features: Vec<String>,
    /// `status.runtimeHandlers`: `handler` of the RuntimeClasses that we serve, beside the default one.
    pub runtime_handlers: Vec<String>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            ips: Vec::new(),
            hostname: String::new(),
            labels: BTreeMap::from([("samara.dev/wasm".into(), "true".into())]),
            os_label: "wasi".into(),
            arch_label: "wasm32".into(),
            taints: vec![Taint {
                key: "kubernetes.io/arch".into(),
                value: Some("wasm32".into()),
                effect: "NoSchedule".into(),
                time_added: None,
            }],
            register: true,
            unschedulable: false,
            provider_id: None,
            pod_cidr: None,
            max_pods: 110,
            pods_per_core: 0,
            reserved: ResourceList::new(),
            eviction_hard: EvictionHard::default(),
            port: 10250,
            status_update_every: Duration::from_secs(10),
            status_report_every: Duration::from_secs(300),
            pressure_period: Duration::from_secs(300),
            lease_seconds: 40,
            max_images: Some(50),
            declared_features: Vec::new(),
            runtime_handlers: vec!["samara".into()],
        }
    }
}

/// How much must stay free; less is pressure, and what must stay free is not allocatable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvictionHard {
    /// `memory.available`. Default 100Mi.
    pub memory_available: Threshold,
    /// `nodefs.available`. Default 10 %.
    pub nodefs_available: Threshold,
    /// `nodefs.inodesFree`. Default 5 %.
    pub nodefs_inodes_free: Threshold,
    /// `imagefs.available`. Default 15 %.
    pub imagefs_available: Threshold,
    /// `pid.available`. Default: none.
    pub pid_available: Threshold,
}

impl EvictionHard {
    /// Nothing must stay free.
    pub const NONE: Self = Self {
        memory_available: Threshold::Amount(0),
        nodefs_available: Threshold::Amount(0),
        nodefs_inodes_free: Threshold::Amount(0),
        imagefs_available: Threshold::Amount(0),
        pid_available: Threshold::Amount(0),
    };
}

impl Default for EvictionHard {
    fn default() -> Self {
        Self {
            memory_available: Threshold::Amount(100 << 20),
            nodefs_available: Threshold::Percent(10.0),
            nodefs_inodes_free: Threshold::Percent(5.0),
            imagefs_available: Threshold::Percent(15.0),
            pid_available: Threshold::Amount(0),
        }
    }
}

/// An amount, or a share of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// Bytes, inodes or processes.
    Amount(u64),
    /// Of the capacity, 0 to 100.
    Percent(f64),
}

impl Threshold {
    /// The amount of `capacity` that must stay free.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of bytes, and a byte does not matter"
            )]
            Self::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
        }
    }

    /// Whether less than that is free.
    pub fn is_crossed(self, free: u64, capacity: u64) -> bool {
        free < self.of(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_an_amount_or_a_share() {
        assert_eq!(Threshold::Percent(10.0).of(1000), 100);
        assert_eq!(Threshold::Amount(7).of(1000), 7);
        assert!(Threshold::Percent(10.0).is_crossed(99, 1000));
        assert!(!Threshold::Percent(10.0).is_crossed(100, 1000));
        assert!(!Threshold::Amount(0).is_crossed(0, 1000), "no threshold is never crossed");
    }
}
