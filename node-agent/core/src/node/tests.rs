use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::*;
use crate::fixtures::at;

fn facts() -> NodeFacts {
    NodeFacts {
        name: "node-1".to_owned(),
        hostname: "machine".to_owned(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        provider_id: Some("cloud://1".to_owned()),
        capacity: [
            ("cpu", Amount::units(4)),
            ("memory", Amount::bytes(8 << 30)),
            ("pods", Amount::units(110)),
            ("ephemeral-storage", Amount::bytes(100 << 30)),
        ]
        .map(|(name, amount)| (name.to_owned(), amount))
        .into(),
        reserved: [("cpu".to_owned(), Amount::milli(100)), ("memory".to_owned(), Amount::bytes(100 << 20))].into(),
        system: NodeSystemInfo {
            operating_system: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            container_runtime_version: "wasmtime://48.0.8".to_owned(),
            ..NodeSystemInfo::default()
        },
        labels: [("samara.dev/wasm".to_owned(), "true".to_owned())].into(),
        os_label: "wasi".to_owned(),
        arch_label: "wasm32".to_owned(),
        taints: vec![Taint {
            key: "kubernetes.io/arch".to_owned(),
            value: Some("wasm32".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        }],
        unschedulable: false,
        port: 10250,
        images: vec![
            NodeImage { names: vec!["small".to_owned()], size: 1 },
            NodeImage { names: (0..7).map(|n| format!("big:{n}")).collect(), size: 900 },
        ],
        max_images: Some(50),
        declared_features: vec!["Zeta".to_owned(), "Alpha".to_owned(), "Zeta".to_owned()],
        runtime_handlers: vec!["samara".to_owned()],
        health: Health::default(),
    }
}

fn condition<'a>(status: &'a NodeStatus, kind: &str) -> &'a NodeCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap()
}

#[test]
fn a_healthy_node_registers_as_this() {
    insta::assert_yaml_snapshot!(node(&facts(), at(0)));
}

#[test]
fn what_is_wrong_is_told_in_the_kubelets_words() {
    let mut facts = facts();
    facts.health = Health {
        not_ready: vec!["no podCIDR".to_owned()],
        memory_pressure: true,
        disk_pressure: true,
        pid_pressure: true,
    };
    let status = node_status(&facts, &NodeStatus::default(), at(0));
    for (kind, state, reason, message) in [
        ("MemoryPressure", "True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("PIDPressure", "True", "KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("Ready", "False", "KubeletNotReady", "no podCIDR"),
    ] {
        let told = condition(&status, kind);
        assert_eq!((told.status.as_str(), told.reason.as_deref()), (state, Some(reason)));
        assert_eq!(told.message.as_deref(), Some(message));
    }
    facts.health.not_ready.push("runtime is down".to_owned());
    let status = node_status(&facts, &status, at(1));
    assert_eq!(condition(&status, "Ready").message.as_deref(), Some("[no podCIDR, runtime is down]"));
}

#[test]
fn conditions_keep_their_transition_time_and_those_of_others_stay() {
    let mut first = node_status(&facts(), &NodeStatus::default(), at(0));
    let foreign = NodeCondition {
        type_: "NetworkUnavailable".to_owned(),
        status: "False".to_owned(),
        ..NodeCondition::default()
    };
    first.conditions.as_mut().unwrap().push(foreign.clone());
    let mut sick = facts();
    sick.health.not_ready = vec!["why".to_owned()];
    let second = node_status(&sick, &first, at(9));
    assert_eq!(condition(&second, "Ready").last_transition_time, Some(Time(at(9))));
    let pressure = condition(&second, "MemoryPressure");
    assert_eq!(pressure.last_transition_time, Some(Time(at(0))));
    assert_eq!(pressure.last_heartbeat_time, Some(Time(at(9))));
    assert_eq!(condition(&second, "NetworkUnavailable"), &foreign);
}

#[test]
fn a_status_is_posted_on_change_and_every_five_minutes() {
    let every = Duration::from_secs(300);
    let first = node_status(&facts(), &NodeStatus::default(), at(0));
    let same = node_status(&facts(), &first, at(10));
    assert_ne!(same, first, "heartbeats differ");
    assert!(!worth_posting(&same, &first, Some(at(0)), every, at(10)));
    assert!(worth_posting(&same, &first, Some(at(0)), every, at(300)));
    assert!(worth_posting(&same, &first, None, every, at(10)));
    let mut reordered = same.clone();
    reordered.conditions.as_mut().unwrap().reverse();
    assert!(!worth_posting(&reordered, &first, Some(at(0)), every, at(10)));
    let mut changed = facts();
    changed.images.clear();
    let changed = node_status(&changed, &first, at(10));
    assert!(worth_posting(&changed, &first, Some(at(0)), every, at(10)));
}

#[test]
fn allocatable_is_never_less_than_nothing_and_pods_are_not_reserved() {
    let list = |pairs: &[(&str, i64)]| -> ResourceList {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), Amount::units(*amount))).collect()
    };
    let left = allocatable(&list(&[("cpu", 1), ("memory", 9), ("pods", 5)]), &list(&[("cpu", 2), ("pods", 2)]));
    assert_eq!(left, list(&[("cpu", 0), ("memory", 9), ("pods", 5)]));
}

#[test]
fn as_many_images_are_told_as_may_be_the_largest_first() {
    let mut many = facts();
    many.images = (0..60).map(|size| NodeImage { names: vec![format!("i{size}")], size }).collect();
    for (most, told) in [(Some(50), 50), (Some(60), 60), (Some(100), 60), (None, 60), (Some(1), 1)] {
        let images = node_status(&NodeFacts { max_images: most, ..many.clone() }, &NodeStatus::default(), at(0)).images;
        let images = images.unwrap();
        assert_eq!((images.len(), images[0].size_bytes), (told, Some(59)), "{most:?}");
    }
    assert_eq!(node_status(&NodeFacts { max_images: Some(0), ..many }, &NodeStatus::default(), at(0)).images, None);
}

/// The API server gives back no list that is empty.
#[test]
fn a_node_without_images_is_not_posted_again_and_again() {
    let bare = NodeFacts { images: Vec::new(), declared_features: Vec::new(), runtime_handlers: Vec::new(), ..facts() };
    let first = node_status(&bare, &NodeStatus::default(), at(0));
    let mut kept = serde_json::to_value(&first).unwrap();
    kept.as_object_mut().unwrap().retain(|_, field| field.as_array().is_none_or(|list| !list.is_empty()));
    let kept: NodeStatus = serde_json::from_value(kept).unwrap();
    let next = node_status(&bare, &kept, at(10));
    assert!(!worth_posting(&next, &kept, Some(at(0)), Duration::from_secs(300), at(10)));
}

/// An operator tells of them with a patch of `status.capacity`; what can be had of them is the node's to say.
#[test]
fn resources_of_others_stay_and_can_be_had() {
    let dongles = || BTreeMap::from([("example.com/dongle".to_owned(), Quantity("4".to_owned()))]);
    let previous = NodeStatus { capacity: Some(dongles()), ..NodeStatus::default() };
    let status = node_status(&facts(), &previous, at(0));
    for (list, cpu) in [(status.capacity.clone().unwrap(), "4"), (status.allocatable.clone().unwrap(), "3900m")] {
        assert_eq!((list["example.com/dongle"].0.as_str(), list["cpu"].0.as_str()), ("4", cpu));
    }
    // Taken away by whoever told of it.
    let without = NodeStatus {
        capacity: Some(status.capacity.unwrap().into_iter().filter(|(name, _)| !name.contains('/')).collect()),
        allocatable: status.allocatable,
        ..NodeStatus::default()
    };
    assert!(!node_status(&facts(), &without, at(0)).allocatable.unwrap().contains_key("example.com/dongle"));
}

#[test]
fn labels_of_an_existing_node_are_put_right_and_its_taints_left_alone() {
    let mut existing = node(&facts(), at(0));
    assert_eq!(reconcile(&existing, &facts()), None);
    existing.spec.as_mut().unwrap().taints = None;
    let labels = existing.metadata.labels.as_mut().unwrap();
    labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    labels.insert("theirs".to_owned(), "x".to_owned());
    labels.remove("samara.dev/wasm");
    let changes = reconcile(&existing, &facts()).unwrap();
    let expected = [("kubernetes.io/os", "wasi"), ("samara.dev/wasm", "true")];
    assert_eq!(changes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}

#[test]
fn a_lease_is_made_then_renewed() {
    let made = lease("node-1", None, None, 40, at(0));
    assert_eq!(made.metadata.namespace.as_deref(), Some(LEASE_NAMESPACE));
    assert_eq!(made.metadata.owner_references, None);
    let mut there = made;
    there.metadata.resource_version = Some("7".to_owned());
    let renewed = lease("node-1", Some("uid-1"), Some(&there), 40, at(10));
    assert_eq!(renewed.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(renewed.metadata.owner_references.unwrap()[0].uid, "uid-1");
    let spec = renewed.spec.unwrap();
    assert_eq!(spec.renew_time, Some(MicroTime(at(10))));
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("node-1"), Some(40)));
}
