use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ContainerPort, HostPathVolumeSource, NFSVolumeSource, NodeAffinity, NodeSelector,
    NodeSelectorRequirement, NodeSelectorTerm, NodeSpec, NodeStatus, NodeSystemInfo, PodOS, PodSecurityContext,
    SecurityContext, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::fixtures::{PodExt, container, pod, sized};

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn node() -> Node {
    let allocatable = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3"), ("ephemeral-storage", "10Gi")];
    Node {
        metadata: ObjectMeta {
            name: Some("node-1".to_owned()),
            labels: Some(texts(&[("kubernetes.io/os", "wasi"), ("zone", "a"), ("rank", "5")])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            allocatable: Some(allocatable.map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).into()),
            node_info: Some(NodeSystemInfo { operating_system: "linux".to_owned(), ..NodeSystemInfo::default() }),
            ..NodeStatus::default()
        }),
    }
}

#[track_caller]
fn rejected(pod: &Pod, others: &[Pod]) -> (String, String) {
    let rejection = admit(pod, &node(), others).unwrap_err();
    (rejection.reason.to_owned(), rejection.message)
}

#[track_caller]
fn admitted(pod: &Pod, others: &[Pod]) {
    assert_eq!(admit(pod, &node(), others), Ok(()));
}

fn asking(resource: &str, amount: &str) -> Pod {
    pod("web").with(sized("app", &[(resource, amount)], &[]))
}

fn said(reason: &str, message: &str) -> (String, String) {
    (reason.to_owned(), message.to_owned())
}

#[test]
fn a_pod_that_fits_is_admitted() {
    admitted(&asking("cpu", "2"), &[]);
    admitted(&asking("memory", "1Gi"), &[asking("cpu", "1")]);
    admitted(&asking("example.com/gpu", "1"), &[]);
}

#[test]
fn what_there_is_no_room_for_is_told_in_numbers() {
    let others = [asking("cpu", "1500m"), asking("memory", "1000Mi")];
    assert_eq!(
        rejected(&asking("cpu", "1"), &others),
        said("OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000")
    );
    assert_eq!(
        rejected(&asking("memory", "100Mi"), &others),
        said(
            "OutOfmemory",
            "Node didn't have enough resource: memory, requested: 104857600, used: 1048576000, capacity: 1073741824"
        )
    );
    assert_eq!(rejected(&asking("ephemeral-storage", "11Gi"), &[]).0, "OutOfephemeral-storage");
    let full = [pod("a"), pod("b"), pod("c")];
    assert_eq!(
        rejected(&pod("d"), &full),
        said("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3")
    );
    let rejection = admit(&pod("d"), &node(), &full).unwrap_err();
    assert_eq!(
        rejection.status_message(),
        "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
    );
}

#[test]
fn a_quantity_that_is_none_is_an_unexpected_error() {
    let (reason, message) = rejected(&asking("cpu", "lots"), &[]);
    assert_eq!(reason, "UnexpectedAdmissionError");
    assert!(message.contains("spec.containers[app].resources.requests[cpu]"), "{message}");
    admitted(&asking("cpu", "2"), &[asking("cpu", "lots")]);
}

#[test]
fn the_operating_system_has_to_be_this_nodes() {
    let labelled = |os: &str| pod("web").change(|pod| pod.metadata.labels = Some(texts(&[("kubernetes.io/os", os)])));
    admitted(&labelled("wasi"), &[]);
    assert_eq!(
        rejected(&labelled("linux"), &[]),
        said(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        )
    );
    let field = |os: &str| pod("web").spec(|spec| spec.os = Some(PodOS { name: os.to_owned() }));
    admitted(&field("linux"), &[]);
    assert_eq!(
        rejected(&field("windows"), &[]),
        said("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    );
}

#[test]
fn node_selector_and_affinity_are_checked_again() {
    let why = said("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector");
    let selecting = |value: &str| pod("web").spec(|spec| spec.node_selector = Some(texts(&[("zone", value)])));
    admitted(&selecting("a"), &[]);
    assert_eq!(rejected(&selecting("b"), &[]), why);

    let requirement = |key: &str, operator: &str, values: &[&str]| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    let requiring = |terms: Vec<NodeSelectorTerm>| {
        let required = NodeSelector { node_selector_terms: terms };
        let affinity = NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            ..NodeAffinity::default()
        };
        pod("web").spec(|spec| {
            spec.affinity = Some(Affinity { node_affinity: Some(affinity), ..Affinity::default() });
        })
    };
    let term = |requirement| NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    for (expression, matches) in [
        (requirement("zone", "In", &["b", "a"]), true),
        (requirement("zone", "In", &["b"]), false),
        (requirement("zone", "NotIn", &["b"]), true),
        (requirement("none", "NotIn", &["b"]), true),
        (requirement("zone", "Exists", &[]), true),
        (requirement("none", "Exists", &[]), false),
        (requirement("none", "DoesNotExist", &[]), true),
        (requirement("rank", "Gt", &["4"]), true),
        (requirement("rank", "Lt", &["5"]), false),
        (requirement("zone", "Gt", &["1"]), false),
        (requirement("zone", "Near", &["a"]), false),
    ] {
        let pod = requiring(vec![term(expression.clone())]);
        assert_eq!(admit(&pod, &node(), []).is_ok(), matches, "{expression:?}");
    }
    let by_name = NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![requirement("metadata.name", "In", &["node-1"])]),
    };
    admitted(&requiring(vec![NodeSelectorTerm::default(), by_name]), &[]);
    assert_eq!(rejected(&requiring(vec![NodeSelectorTerm::default()]), &[]), why);
    assert_eq!(rejected(&requiring(vec![]), &[]), why);
}

#[test]
fn only_no_execute_taints_matter_and_can_be_tolerated() {
    let taint = |effect: &str| Taint {
        key: "maintenance".to_owned(),
        value: Some("now".to_owned()),
        effect: effect.to_owned(),
        time_added: None,
    };
    let tainted = |effect: &str| {
        let mut node = node();
        node.spec.as_mut().unwrap().taints = Some(vec![taint(effect)]);
        node
    };
    assert_eq!(admit(&pod("web"), &tainted("NoSchedule"), []), Ok(()));
    let rejection = admit(&pod("web"), &tainted("NoExecute"), []).unwrap_err();
    assert_eq!(
        (rejection.reason, rejection.message.as_str()),
        ("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")
    );
    let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
        key: Some(key.to_owned()),
        operator: Some(operator.to_owned()),
        value: Some(value.to_owned()),
        effect: Some(effect.to_owned()),
        toleration_seconds: None,
    };
    for (toleration, tolerates) in [
        (toleration("", "Exists", "", ""), true),
        (toleration("maintenance", "Exists", "", "NoExecute"), true),
        (toleration("maintenance", "", "now", ""), true),
        (toleration("maintenance", "Equal", "later", ""), false),
        (toleration("maintenance", "Exists", "", "NoSchedule"), false),
        (toleration("other", "Exists", "", ""), false),
        (toleration("", "Equal", "now", ""), false),
    ] {
        let pod = pod("web").spec(|spec| spec.tolerations = Some(vec![toleration.clone()]));
        assert_eq!(admit(&pod, &tainted("NoExecute"), []).is_ok(), tolerates, "{toleration:?}");
    }
}

fn with_host_port(port: i32, protocol: Option<&str>, ip: Option<&str>) -> Pod {
    let port = ContainerPort {
        container_port: port,
        host_port: Some(port),
        protocol: protocol.map(str::to_owned),
        host_ip: ip.map(str::to_owned),
        ..ContainerPort::default()
    };
    pod("web").with(k8s_openapi::api::core::v1::Container { ports: Some(vec![port]), ..container("app") })
}

#[test]
fn a_host_port_is_given_once() {
    let taken = [with_host_port(80, None, Some("127.0.0.1"))];
    assert_eq!(rejected(&with_host_port(80, Some("TCP"), None), &taken).0, "NodePorts");
    admitted(&with_host_port(80, Some("UDP"), None), &taken);
    admitted(&with_host_port(81, None, None), &taken);
    admitted(&with_host_port(80, None, Some("127.0.0.2")), &taken);
}

#[test]
fn a_pod_of_another_node_is_not_taken() {
    assert_eq!(rejected(&pod("web").spec(|spec| spec.node_name = Some("node-2".to_owned())), &[]).0, "NodeName");
    admitted(&Pod::default(), &[]);
}

#[test]
fn strict_supplemental_groups_need_a_node_that_says_so() {
    let strict =
        PodSecurityContext { supplemental_groups_policy: Some("Strict".to_owned()), ..PodSecurityContext::default() };
    let pod = pod("web").spec(|spec| spec.security_context = Some(strict));
    assert_eq!(rejected(&pod, &[]).0, "SupplementalGroupsPolicyNotSupported");
}

#[test]
fn fields_that_cannot_be_honoured_are_all_named() {
    let context = SecurityContext {
        privileged: Some(true),
        capabilities: Some(Capabilities::default()),
        ..SecurityContext::default()
    };
    let app = k8s_openapi::api::core::v1::Container { security_context: Some(context), ..container("app") };
    let pod = pod("web").container("first").with(app).spec(|spec| {
        spec.host_pid = Some(true);
        spec.volumes = Some(vec![
            Volume { host_path: Some(HostPathVolumeSource::default()), ..Volume::default() },
            Volume { nfs: Some(NFSVolumeSource::default()), ..Volume::default() },
        ]);
    });
    assert_eq!(
        unsupported(&pod).unwrap(),
        "this node runs WebAssembly and cannot honour: \
         spec.hostPID, spec.volumes[1].nfs, spec.containers[1].securityContext.privileged"
    );
    admitted(&pod, &[]);
}

#[test]
fn an_ordinary_pod_can_be_honoured() {
    assert_eq!(unsupported(&pod("web").container("app").init("setup").sidecar("proxy")), None);
    assert_eq!(unsupported(&Pod::default()), None);
    let host_network = with_host_port(80, None, None).spec(|spec| spec.host_network = Some(true));
    assert_eq!(unsupported(&host_network), None);
    assert_eq!(unsupported(&with_host_port(80, None, None)), None);
    assert!(unsupported(&with_host_port(80, Some("SCTP"), None)).is_some_and(|text| text.contains("SCTP")));
}
