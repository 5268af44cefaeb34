//! How often probes were tried, by pod; forgotten with the pod.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Which probe (kubelet: `prober.ProberResults`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProbeLabels {
    /// Its container.
    pub container: String,
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// And which of that name.
    pub pod_uid: String,
    /// `Liveness`, `Readiness` or `Startup`.
    pub probe_type: &'static str,
    /// What one try gave.
    pub result: ProbeResult,
}

/// What one try gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "as they are written")]
pub enum ProbeResult {
    /// It did what was asked.
    successful,
    /// It did not.
    failed,
    /// It could not be asked.
    unknown,
}

/// Counts. Cheap to touch.
#[derive(Debug, Default)]
pub struct Probes(Mutex<HashMap<ProbeLabels, u64>>);

impl Probes {
    /// One more try.
    pub fn count(&self, labels: ProbeLabels) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(labels).or_default() += 1;
    }

    /// The pod is gone.
    pub fn forget(&self, pod_uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|labels, _| labels.pod_uid != pod_uid);
    }

    /// As they stand.
    pub fn registry(&self) -> Registry {
        let family = Family::<ProbeLabels, Counter>::default();
        for (labels, count) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            family.get_or_create(labels).inc_by(*count);
        }
        let mut registry = Registry::default();
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result";
        registry.register("prober_probe", help, family);
        registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(probes: &Probes) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &probes.registry()).expect("a String takes all");
        text
    }

    #[test]
    fn tries_are_counted_until_the_pod_is_gone() {
        let probes = Probes::default();
        let labels = |uid: &str| ProbeLabels {
            container: "app".into(),
            namespace: "default".into(),
            pod: "web".into(),
            pod_uid: uid.into(),
            probe_type: "Liveness",
            result: ProbeResult::failed,
        };
        for uid in ["a", "a", "b"] {
            probes.count(labels(uid));
        }
        let line = |uid| {
            format!(
                "prober_probe_total{{container=\"app\",namespace=\"default\",pod=\"web\",pod_uid=\"{uid}\",probe_type=\"Liveness\",result=\"failed\"}}"
            )
        };
        assert!(text(&probes).contains(&format!("{} 2\n", line("a"))), "{}", text(&probes));
        probes.forget("a");
        assert!(!text(&probes).contains(&line("a")));
        assert!(text(&probes).contains(&format!("{} 1\n", line("b"))));
    }
}
