use k8s_openapi::api::core::v1::PodStatus;

use super::*;
use crate::fixtures::{PodExt, container, pod, sized};

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned()))).collect()
}

fn written(list: &ResourceList) -> Vec<String> {
    list.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
}

fn sidecar(name: &str, requests: &[(&str, &str)]) -> Container {
    Container { restart_policy: Some("Always".to_owned()), ..sized(name, requests, &[]) }
}

fn pod_level(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> ResourceRequirements {
    let part = |pairs: &[(&str, &str)]| (!pairs.is_empty()).then(|| quantities(pairs));
    ResourceRequirements { claims: None, requests: part(requests), limits: part(limits) }
}

#[test]
fn containers_add_up_and_init_containers_count_by_the_largest() {
    let pod = pod("web")
        .with(sized("a", &[("cpu", "100m"), ("memory", "64Mi")], &[]))
        .with(sized("b", &[("cpu", "200m")], &[]))
        .with_init(sized("i", &[("cpu", "250m"), ("memory", "1Gi")], &[]));
    assert_eq!(written(&pod_requests(&pod).unwrap()), ["cpu=300m", "memory=1Gi"]);
}

#[test]
fn an_init_container_needs_room_beside_the_sidecars_before_it() {
    let pod = pod("web")
        .with(sized("a", &[("cpu", "100m")], &[]))
        .with_init(sized("first", &[("cpu", "350m")], &[]))
        .with_init(sidecar("proxy", &[("cpu", "200m")]))
        .with_init(sized("last", &[("cpu", "300m")], &[]));
    assert_eq!(written(&pod_requests(&pod).unwrap()), ["cpu=500m"]);
}

#[test]
fn the_pods_own_requests_replace_the_sum_and_overhead_comes_on_top() {
    let pod = pod("web").with(sized("a", &[("cpu", "100m"), ("ephemeral-storage", "1Gi")], &[("memory", "1Gi")]));
    let pod = pod.spec(|spec| {
        spec.resources = Some(pod_level(&[("cpu", "2")], &[]));
        spec.overhead = Some(quantities(&[("cpu", "10m"), ("memory", "5Mi")]));
    });
    assert_eq!(written(&pod_requests(&pod).unwrap()), ["cpu=2010m", "ephemeral-storage=1Gi", "memory=5Mi"]);
    assert_eq!(written(&pod_limits(&pod).unwrap()), ["memory=1029Mi"]);
}

#[test]
fn a_quantity_that_is_none_is_named_with_its_path() {
    let pod = pod("web").with(sized("app", &[], &[("memory", "lots")]));
    assert_eq!(
        pod_limits(&pod).unwrap_err().to_string(),
        "spec.containers[app].resources.limits[memory]: invalid quantity \"lots\": it has no digits"
    );
}

#[test]
fn the_qos_class_follows_from_requests_and_limits() {
    let both = &[("cpu", "1"), ("memory", "1Gi")][..];
    let cpu = &[("cpu", "1")][..];
    for (sentence, pod, expected) in [
        ("nothing", pod("p").container("a"), QosClass::BestEffort),
        ("zero is nothing", pod("p").with(sized("a", &[("cpu", "0")], &[])), QosClass::BestEffort),
        ("storage does not count", pod("p").with(sized("a", &[("ephemeral-storage", "1")], &[])), QosClass::BestEffort),
        ("a request", pod("p").with(sized("a", cpu, &[])), QosClass::Burstable),
        ("one limit", pod("p").with(sized("a", cpu, cpu)), QosClass::Burstable),
        ("both, equal", pod("p").with(sized("a", both, both)), QosClass::Guaranteed),
        (
            "equal, written otherwise",
            pod("p").with(sized("a", &[("cpu", "1000m"), ("memory", "1024Mi")], both)),
            QosClass::Guaranteed,
        ),
        (
            "less asked than allowed",
            pod("p").with(sized("a", &[("cpu", "1m"), ("memory", "1Gi")], both)),
            QosClass::Burstable,
        ),
        ("one container without", pod("p").with(sized("a", both, both)).container("b"), QosClass::Burstable),
        ("an init container without", pod("p").with(sized("a", both, both)).init("i"), QosClass::Burstable),
        (
            "by the pod itself",
            pod("p").container("a").spec(|spec| spec.resources = Some(pod_level(both, both))),
            QosClass::Guaranteed,
        ),
        ("not a quantity", pod("p").with(sized("a", &[("cpu", "x")], &[])), QosClass::BestEffort),
    ] {
        assert_eq!(qos_class(&pod), expected, "{sentence}");
    }
}

#[test]
fn a_class_that_was_told_is_kept() {
    let mut pod = pod("p").container("a");
    pod.status = Some(PodStatus { qos_class: Some("Guaranteed".to_owned()), ..PodStatus::default() });
    assert_eq!(qos_class(&pod), QosClass::Guaranteed);
}

#[test]
fn shares_and_quota_follow_the_kubelets_formulas() {
    let shares: Vec<_> = [-5, 0, 1, 2, 100, 1000, 2500, i64::MAX].map(cpu_shares).into();
    assert_eq!(shares, [2, 2, 2, 2, 102, 1024, 2560, 262_144]);
    let quotas: Vec<_> = [-5, 0, 1, 10, 500, 1500, i64::MAX].map(cpu_quota).into();
    assert_eq!(quotas, [None, None, Some(1000), Some(1000), Some(50_000), Some(150_000), Some(i64::MAX)]);
}

/// shares, quota, memory
fn settings(resources: &LinuxResources) -> (u64, Option<i64>, Option<i64>) {
    let cpu = resources.cpu().as_ref().unwrap();
    let memory = resources.memory().as_ref().and_then(LinuxMemory::limit);
    assert_eq!(cpu.quota().is_some(), cpu.period() == Some(CPU_PERIOD));
    assert_eq!(resources.memory().as_ref().and_then(LinuxMemory::swap), memory);
    (cpu.shares().unwrap(), cpu.quota(), memory)
}

#[test]
fn a_containers_limits_become_its_cgroup() {
    for (requests, limits, expected) in [
        (&[][..], &[][..], (2, None, None)),
        (&[("cpu", "250m")], &[], (256, None, None)),
        (&[], &[("cpu", "500m")], (512, Some(50_000), None)),
        (&[("cpu", "0")], &[("cpu", "500m")], (2, Some(50_000), None)),
        (&[("memory", "1Gi")], &[("memory", "64Mi")], (2, None, Some(64 << 20))),
    ] {
        let container = sized("a", requests, limits);
        assert_eq!(settings(&container_linux_resources(&container).unwrap()), expected);
    }
}

#[test]
fn a_pods_cgroup_has_a_limit_only_where_all_its_containers_have_one() {
    let both = &[("cpu", "1"), ("memory", "1Gi")][..];
    let limited = pod("p").with(sized("a", both, both)).with(sized("b", both, both));
    assert_eq!(settings(&pod_linux_resources(&limited).unwrap()), (2048, Some(200_000), Some(2 << 30)));
    let open = pod("p").with(sized("a", both, both)).with(sized("b", &[("cpu", "1")], &[("memory", "1Gi")]));
    assert_eq!(settings(&pod_linux_resources(&open).unwrap()), (2048, None, Some(2 << 30)));
    let nothing = pod("p").container("a");
    assert_eq!(settings(&pod_linux_resources(&nothing).unwrap()), (2, None, None));
    let by_pod = pod("p").container("a").spec(|spec| spec.resources = Some(pod_level(&[], &[("memory", "2Gi")])));
    assert_eq!(settings(&pod_linux_resources(&by_pod).unwrap()), (2, None, Some(2 << 30)));
}

#[test]
fn who_asked_for_more_memory_is_killed_later() {
    const NODE: i64 = 16 << 30;
    let both = &[("cpu", "1"), ("memory", "1Gi")][..];
    let score = |pod: &Pod| oom_score_adj(pod, &pod.spec.as_ref().unwrap().containers[0], NODE);
    assert_eq!(score(&pod("p").container("a")), 1000);
    assert_eq!(score(&pod("p").with(sized("a", both, both))), -997);
    assert_eq!(score(&pod("p").with(sized("a", &[("memory", "4Gi")], &[]))), 750);
    assert_eq!(score(&pod("p").with(sized("a", &[("memory", "1")], &[]))), 999);
    assert_eq!(score(&pod("p").with(sized("a", &[("memory", "64Gi")], &[]))), 3);
    let critical = pod("p").container("a");
    let critical = critical.spec(|spec| spec.priority_class_name = Some("system-node-critical".to_owned()));
    assert_eq!(score(&critical), -997);
    assert_eq!(oom_score_adj(&pod("p").with(sized("a", &[("memory", "1Gi")], &[])), &container("a"), 0), 999);
}

#[test]
fn a_sidecar_is_spared_as_long_as_the_smallest_container() {
    let pod = pod("p").with(sized("a", &[("memory", "8Gi")], &[])).with_init(sidecar("proxy", &[("memory", "1Gi")]));
    let proxy = &pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
    assert_eq!(oom_score_adj(&pod, proxy, 16 << 30), 500);
}

#[test]
fn memory_that_only_the_pod_asks_for_spares_each_container_a_part() {
    let pod = pod("p").with(sized("a", &[("memory", "1Gi")], &[])).container("b");
    let pod = pod.spec(|spec| spec.resources = Some(pod_level(&[("memory", "5Gi")], &[])));
    let containers = &pod.spec.as_ref().unwrap().containers;
    assert_eq!(oom_score_adj(&pod, &containers[0], 16 << 30), 813);
    assert_eq!(oom_score_adj(&pod, &containers[1], 16 << 30), 875);
}
