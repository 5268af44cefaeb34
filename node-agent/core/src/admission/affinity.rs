//! `nodeSelector` and required node affinity against a node (component-helpers: `scheduling/corev1/nodeaffinity`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Whether the node has what the pod requires of it.
pub(super) fn matches(spec: &PodSpec, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| required.node_selector_terms.iter().any(|t| term(t, labels, node)))
}

/// A term without requirements matches nothing.
fn term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.metadata.name.clone().unwrap_or_default();
    let node_fields = BTreeMap::from([("metadata.name".to_owned(), name)]);
    expressions.iter().all(|requirement| holds(requirement, labels))
        && fields.iter().all(|requirement| holds(requirement, &node_fields))
}

fn holds(requirement: &NodeSelectorRequirement, values: &BTreeMap<String, String>) -> bool {
    let wanted = requirement.values.as_deref().unwrap_or_default();
    let value = values.get(&requirement.key);
    let number = |text: &String| text.parse::<i64>().ok();
    let compare = |holds: fn(i64, i64) -> bool| match (value.and_then(number), wanted) {
        (Some(value), [bound]) => number(bound).is_some_and(|bound| holds(value, bound)),
        _ => false,
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| wanted.contains(value)),
        "NotIn" => value.is_none_or(|value| !wanted.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}
