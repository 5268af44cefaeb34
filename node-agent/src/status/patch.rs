//! The patch that tells a status: a strategic merge that names the pod's UID and leaves other people's conditions alone.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use samara_core::reasons::condition::TERMINATION_BY_KUBELET;
use serde_json::{Value, json};

/// Conditions that the node owns (kubelet: `types/pod_status.go`). `PodScheduled` is the scheduler's.
const OWN: [&str; 6] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodResizePending", "PodResizeInProgress"];
/// Texts that a later status may be without: a merge would keep them, a `null` takes them away.
const FADING: [&str; 2] = ["reason", "message"];
/// Lists that a merge would only add to, and whose old addresses the API server then refuses beside new ones.
const REPLACED: [&str; 2] = ["podIPs", "hostIPs"];

/// The patch's JSON.
pub(super) fn patch(uid: &str, status: &PodStatus) -> Value {
    let own = PodStatus {
        conditions: status.conditions.as_ref().map(|all| all.iter().filter(|one| is_own(one)).cloned().collect()),
        ..status.clone()
    };
    let mut value = json!(own);
    fade(&mut value);
    if let Some(conditions) = value.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.iter_mut().for_each(fade);
    }
    for list in REPLACED {
        if let Some(list) = value.get_mut(list).and_then(Value::as_array_mut) {
            list.insert(0, json!({ "$patch": "replace" }));
        }
    }
    json!({ "metadata": { "uid": uid }, "status": value })
}

fn is_own(condition: &PodCondition) -> bool {
    OWN.contains(&condition.type_.as_str())
        || condition.type_ == "DisruptionTarget" && condition.reason.as_deref() == Some(TERMINATION_BY_KUBELET)
}

fn fade(value: &mut Value) {
    if let Value::Object(fields) = value {
        for field in FADING {
            fields.entry(field).or_insert(Value::Null);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, reason: Option<&str>) -> PodCondition {
        PodCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: reason.map(str::to_owned),
            ..PodCondition::default()
        }
    }

    #[test]
    fn conditions_of_others_are_not_in_the_patch_and_a_faded_reason_is_taken_away() {
        let status = PodStatus {
            phase: Some("Running".to_owned()),
            conditions: Some(vec![
                condition("PodScheduled", None),
                condition("example.com/gate", None),
                condition("DisruptionTarget", Some("EvictionByEvictionAPI")),
                condition("Ready", None),
                condition("DisruptionTarget", Some("TerminationByKubelet")),
            ]),
            ..PodStatus::default()
        };
        let want = json!({
            "metadata": { "uid": "u-1" },
            "status": {
                "phase": "Running",
                "reason": null,
                "message": null,
                "conditions": [
                    { "type": "Ready", "status": "True", "reason": null, "message": null },
                    { "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": null },
                ],
            },
        });
        assert_eq!(patch("u-1", &status), want);
    }

    #[test]
    fn an_address_that_a_pod_had_before_is_not_kept_beside_its_new_one() {
        let ips = vec![k8s_openapi::api::core::v1::PodIP { ip: "10.0.0.3".to_owned() }];
        let patch = patch("u", &PodStatus { pod_ips: Some(ips), ..PodStatus::default() });
        assert_eq!(patch["status"]["podIPs"], json!([{ "$patch": "replace" }, { "ip": "10.0.0.3" }]));
    }

    #[test]
    fn a_reason_that_is_there_stays() {
        let status = PodStatus { reason: Some("Evicted".to_owned()), ..PodStatus::default() };
        let want = json!({ "metadata": { "uid": "u" }, "status": { "reason": "Evicted", "message": null } });
        assert_eq!(patch("u", &status), want);
    }
}
