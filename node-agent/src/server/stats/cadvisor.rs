//! `/metrics/cadvisor`: pods and containers under the names that dashboards and alerts know (cAdvisor: `metrics/prometheus.go`).
//!
//! A pod's own series have an empty `container` and `image`, as there. Not told: network (pods share an interface) and block
//! devices.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use samara_shim_client::cgroup::Stats;

use super::Measured;
use super::resource::{bytes, seconds, unix};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    container: String,
    id: String,
    image: String,
    name: String,
    namespace: String,
    pod: String,
}

/// A series: its labels, and what it is told from.
struct Series<'a> {
    labels: Labels,
    stats: &'a Stats,
    started_at: Option<jiff::Timestamp>,
    /// Of a container's writable layer.
    written: Option<u64>,
}

type Value = fn(&Stats) -> f64;

const COUNTERS: [(&str, &str, Value); 7] = [
    ("container_cpu_usage_seconds", "Cumulative cpu time consumed in seconds", |all| seconds(all.cpu.usage_nanos)),
    ("container_cpu_user_seconds", "Cumulative user cpu time consumed in seconds", |all| seconds(all.cpu.user_nanos)),
    ("container_cpu_system_seconds", "Cumulative system cpu time consumed in seconds", |all| {
        seconds(all.cpu.system_nanos)
    }),
    ("container_cpu_cfs_periods", "Number of elapsed enforcement period intervals", |all| bytes(all.cpu.periods)),
    ("container_cpu_cfs_throttled_periods", "Number of throttled period intervals", |all| {
        bytes(all.cpu.throttled_periods)
    }),
    ("container_cpu_cfs_throttled_seconds", "Total time duration the container has been throttled", |all| {
        seconds(all.cpu.throttled_nanos)
    }),
    ("container_oom_events", "Count of out of memory events observed for the container", |all| {
        bytes(all.memory.oom_kills)
    }),
];

const GAUGES: [(&str, &str, Value); 9] = [
    ("container_memory_usage_bytes", "Current memory usage in bytes, including all memory", |all| {
        bytes(all.memory.usage)
    }),
    ("container_memory_working_set_bytes", "Current working set in bytes", |all| bytes(all.memory.working_set())),
    ("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", |all| bytes(all.memory.max_usage)),
    ("container_memory_rss", "Size of RSS in bytes", |all| bytes(all.memory.rss)),
    ("container_memory_cache", "Number of bytes of page cache memory", |all| bytes(all.memory.cache)),
    ("container_memory_mapped_file", "Size of memory mapped files in bytes", |all| bytes(all.memory.mapped_file)),
    ("container_memory_swap", "Container swap usage in bytes", |all| bytes(all.memory.swap)),
    ("container_spec_memory_limit_bytes", "Memory limit for the container; 0 without one", |all| {
        bytes(all.memory.limit.unwrap_or(0))
    }),
    ("container_threads", "Number of threads running inside the container", |all| bytes(all.pids.current)),
];

/// The text; nothing of pods if nothing could be measured.
pub(super) fn text(measured: Option<&Measured>) -> String {
    let mut registry = Registry::default();
    if let Some(measured) = measured {
        let all: Vec<_> = series(measured);
        for (name, help, value) in COUNTERS {
            let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
            for one in &all {
                family.get_or_create(&one.labels).inc_by(value(one.stats));
            }
            registry.register(name, help, family);
        }
        for (name, help, value) in GAUGES {
            gauges(&mut registry, name, help, all.iter().map(|one| (&one.labels, value(one.stats))));
        }
        let started = all.iter().filter_map(|one| Some((&one.labels, unix(one.started_at?))));
        gauges(&mut registry, "container_start_time_seconds", "Start time of the container since unix epoch", started);
        let written = all.iter().filter_map(|one| Some((&one.labels, bytes(one.written?))));
        gauges(&mut registry, "container_fs_usage_bytes", "Number of bytes consumed in the writable layer", written);
        let seen = all.iter().map(|one| (&one.labels, unix(measured.at)));
        gauges(&mut registry, "container_last_seen", "Last time a container was seen by the exporter", seen);
        machine(&mut registry, measured);
    }
    let mut text = String::new();
    // A String takes all.
    let _infallible = encode(&mut text, &registry);
    text
}

fn gauges<'a>(registry: &mut Registry, name: &str, help: &str, values: impl Iterator<Item = (&'a Labels, f64)>) {
    let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for (labels, value) in values {
        family.get_or_create(labels).set(value);
    }
    registry.register(name, help, family);
}

fn machine(registry: &mut Registry, measured: &Measured) {
    let cores = std::thread::available_parallelism().map_or(0, |cores| i64::try_from(cores.get()).unwrap_or(0));
    let memory = i64::try_from(measured.node.memory.total).unwrap_or(i64::MAX);
    for (name, help, value) in [
        ("machine_cpu_cores", "Number of logical CPU cores", cores),
        ("machine_memory_bytes", "Amount of memory installed on the machine", memory),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

fn series(measured: &Measured) -> Vec<Series<'_>> {
    let mut all = Vec::new();
    for pod in &measured.pods {
        let of = |container: &str, id: String, image: &str, name: &str| Labels {
            container: container.to_owned(),
            id,
            image: image.to_owned(),
            name: name.to_owned(),
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
        };
        all.push(Series {
            labels: of("", pod.cgroup.clone(), "", ""),
            stats: &pod.stats,
            started_at: pod.started_at,
            written: None,
        });
        all.extend(pod.containers.iter().map(|container| Series {
            labels: of(&container.name, format!("{}/{}", pod.cgroup, container.id), &container.image, &container.id),
            stats: &container.stats,
            started_at: container.started_at,
            written: container.rootfs.map(|used| used.bytes),
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::measured;
    use super::*;

    #[test]
    fn a_containers_series_have_the_labels_that_dashboards_select_by() {
        let text = text(Some(&measured()));
        let container = "{container=\"app\",id=\"/samara/poduid-1/abc\",image=\"registry/app:1\",name=\"abc\",namespace=\"default\",pod=\"web\"}";
        let pod = "{container=\"\",id=\"/samara/poduid-1\",image=\"\",name=\"\",namespace=\"default\",pod=\"web\"}";
        for line in [
            format!("container_cpu_usage_seconds_total{container} 0.002\n"),
            format!("container_cpu_usage_seconds_total{pod} 0.003\n"),
            format!("container_cpu_cfs_throttled_periods_total{container} 3.0\n"),
            format!("container_memory_working_set_bytes{container} 8192.0\n"),
            format!("container_spec_memory_limit_bytes{container} 65536.0\n"),
            format!("container_start_time_seconds{container} 1767322801.5\n"),
            format!("container_fs_usage_bytes{container} 100.0\n"),
            "machine_memory_bytes 1000\n".to_owned(),
        ] {
            assert!(text.contains(&line), "no {line} in\n{text}");
        }
        assert!(!text.contains(&format!("container_fs_usage_bytes{pod}")), "a pod has no layer of its own");
    }

    #[test]
    fn what_cannot_be_measured_is_not_made_up() {
        assert_eq!(super::text(None), "# EOF\n");
    }
}
