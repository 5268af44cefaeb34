//! Which events a new status is worth (kubelet: `nodestatus/setters.go`, `recordNodeStatusEvent`).

use k8s_openapi::api::core::v1::NodeStatus;

use crate::events::{Event, reason};

/// Conditions that are told from the first, with what is told when they hold and when they do not.
const PRESSURES: [(&str, &str, &str); 3] = [
    ("MemoryPressure", reason::NODE_HAS_INSUFFICIENT_MEMORY, reason::NODE_HAS_SUFFICIENT_MEMORY),
    ("DiskPressure", reason::NODE_HAS_DISK_PRESSURE, reason::NODE_HAS_NO_DISK_PRESSURE),
    ("PIDPressure", reason::NODE_HAS_INSUFFICIENT_PID, reason::NODE_HAS_SUFFICIENT_PID),
];

/// Of conditions that changed, and of a boot. Whether the node is Ready is told when that was otherwise before.
pub fn changes(node: &str, previous: &NodeStatus, next: &NodeStatus) -> Vec<Event> {
    let pressures = PRESSURES.iter().filter_map(|(kind, if_so, if_not)| {
        let now = condition(next, kind)?;
        (condition(previous, kind) != Some(now)).then_some(if now == "True" { *if_so } else { *if_not })
    });
    let ready = condition(previous, "Ready").zip(condition(next, "Ready")).filter(|(before, now)| before != now);
    let ready = ready.map(|(_, now)| if now == "True" { reason::NODE_READY } else { reason::NODE_NOT_READY });
    let told =
        pressures.chain(ready).map(|reason| Event::normal(reason, format!("Node {node} status is now: {reason}")));
    told.chain(rebooted(node, previous, next)).collect()
}

fn condition<'a>(status: &'a NodeStatus, kind: &str) -> Option<&'a str> {
    let mut all = status.conditions.iter().flatten();
    all.find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

fn rebooted(node: &str, previous: &NodeStatus, next: &NodeStatus) -> Option<Event> {
    let boot = |status: &NodeStatus| status.node_info.as_ref().map(|info| info.boot_id.clone()).unwrap_or_default();
    let (before, now) = (boot(previous), boot(next));
    let message = format!("Node {node} has been rebooted, boot id: {now}");
    (!before.is_empty() && before != now).then(|| Event::warning(reason::REBOOTED, message))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSystemInfo};

    use super::*;

    fn status(boot: &str, conditions: &[(&str, &str)]) -> NodeStatus {
        let conditions = conditions.iter().map(|(kind, status)| NodeCondition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            ..NodeCondition::default()
        });
        NodeStatus {
            conditions: Some(conditions.collect()),
            node_info: Some(NodeSystemInfo { boot_id: boot.to_owned(), ..NodeSystemInfo::default() }),
            ..NodeStatus::default()
        }
    }

    #[test]
    fn a_condition_is_told_when_it_changes_and_a_boot_when_it_is_another() {
        let well = status("b1", &[("MemoryPressure", "False"), ("Ready", "True")]);
        let ill = status("b1", &[("MemoryPressure", "True"), ("Ready", "False")]);
        let table = [
            ("from nothing", NodeStatus::default(), well.clone(), vec!["NodeHasSufficientMemory"]),
            ("the same", well.clone(), well.clone(), vec![]),
            ("worse", well.clone(), ill.clone(), vec!["NodeHasInsufficientMemory", "NodeNotReady"]),
            ("better", ill, well.clone(), vec!["NodeHasSufficientMemory", "NodeReady"]),
            (
                "nobody had heard",
                status("b1", &[("Ready", "Unknown")]),
                well.clone(),
                vec!["NodeHasSufficientMemory", "NodeReady"],
            ),
            ("a boot", status("b0", &[("MemoryPressure", "False"), ("Ready", "True")]), well, vec!["Rebooted"]),
        ];
        for (name, previous, next, want) in table {
            let told: Vec<_> = changes("n1", &previous, &next).into_iter().map(|event| event.reason).collect();
            assert_eq!(told, want, "{name}");
        }
    }

    #[test]
    fn the_words_are_the_kubelets() {
        let told = changes("n1", &status("b1", &[("Ready", "False")]), &status("b2", &[("Ready", "True")]));
        let want = [
            Event::normal("NodeReady", "Node n1 status is now: NodeReady"),
            Event::warning("Rebooted", "Node n1 has been rebooted, boot id: b2"),
        ];
        assert_eq!(told, want);
    }
}
