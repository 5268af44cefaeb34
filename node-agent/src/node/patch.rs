//! The smallest strategic merge patch that makes one Node status of another.

use k8s_openapi::api::core::v1::NodeStatus;
use serde_json::{Map, Value, json};

/// Lists of the status that a strategic merge patch merges by a key: what is gone from ours would stay in the server's.
/// Conditions are merged on purpose: others own some, which may have changed since we looked. Only those that differ are sent.
const REPLACED: [&str; 1] = ["addresses"];
const MERGED: &str = "conditions";

/// `{"status": {...}}` with the fields that differ. Fields that only `old` has and we never set are left alone.
pub(super) fn status(old: &NodeStatus, new: &NodeStatus) -> Value {
    let (old, new) = (fields(old), fields(new));
    let mut patch = Map::new();
    for (field, wanted) in &new {
        let had = old.get(field);
        if had == Some(wanted) {
            continue;
        }
        match (wanted, had) {
            (Value::Object(wanted), Some(Value::Object(had))) => {
                patch.insert(field.clone(), Value::Object(object(had, wanted)));
            }
            (Value::Array(wanted), _) if REPLACED.contains(&field.as_str()) => {
                let mut list = wanted.clone();
                list.push(json!({"$patch": "replace"}));
                patch.insert(field.clone(), Value::Array(list));
            }
            (Value::Array(wanted), Some(Value::Array(had))) if field == MERGED => {
                let changed = wanted.iter().filter(|condition| !had.contains(condition));
                patch.insert(field.clone(), changed.cloned().collect());
            }
            _ => {
                patch.insert(field.clone(), wanted.clone());
            }
        }
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    json!({"status": patch})
}

fn object(had: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    let changed = wanted
        .iter()
        .filter(|(key, value)| had.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()));
    let gone = had.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    changed.chain(gone).collect()
}

fn fields(status: &NodeStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        // A status is a JSON object.
        Ok(_) | Err(_) => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{NodeAddress, NodeCondition};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    fn base() -> NodeStatus {
        NodeStatus {
            capacity: Some(BTreeMap::from([
                ("cpu".into(), Quantity("2".into())),
                ("memory".into(), Quantity("1Gi".into())),
            ])),
            addresses: Some(vec![address("InternalIP", "10.0.0.1"), address("Hostname", "a")]),
            ..Default::default()
        }
    }

    fn address(type_: &str, address: &str) -> NodeAddress {
        NodeAddress { type_: type_.into(), address: address.into() }
    }

    #[test]
    fn nothing_changed_is_an_empty_patch() {
        assert_eq!(status(&base(), &base()), json!({"status": {}}));
    }

    #[test]
    fn only_changed_and_gone_keys_of_a_map_are_sent() {
        let mut new = base();
        new.capacity = Some(BTreeMap::from([("cpu".into(), Quantity("4".into()))]));
        assert_eq!(status(&base(), &new), json!({"status": {"capacity": {"cpu": "4", "memory": null}}}));
    }

    #[test]
    fn addresses_are_replaced_as_a_whole() {
        let mut new = base();
        new.addresses = Some(vec![address("InternalIP", "10.0.0.2")]);
        let expected =
            json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}, {"$patch": "replace"}]}});
        assert_eq!(status(&base(), &new), expected);
    }

    #[test]
    fn conditions_are_merged_and_those_of_others_not_sent() {
        let condition = |type_: &str, status: &str| NodeCondition {
            type_: type_.into(),
            status: status.into(),
            ..Default::default()
        };
        let expected = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let mut new = base();
        new.conditions = Some(vec![condition("Ready", "True")]);
        assert_eq!(status(&base(), &new), expected);
        let mut old = base();
        old.conditions = Some(vec![condition("KernelDeadlock", "False"), condition("Ready", "Unknown")]);
        new.conditions = Some(vec![condition("KernelDeadlock", "False"), condition("Ready", "True")]);
        assert_eq!(status(&old, &new), expected);
    }

    #[test]
    fn a_field_that_is_gone_is_taken_away() {
        let mut old = base();
        old.volumes_in_use = Some(vec!["v".into()]);
        assert_eq!(status(&old, &base()), json!({"status": {"volumesInUse": null}}));
    }
}
