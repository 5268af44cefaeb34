//! Whether, why and how fast a whole pod ends (kubelet: `pod_workers.go`, `active_deadline.go`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::observed::ObservedPod;
use super::previous;
use crate::reasons;

/// What a pod has when it says nothing else.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Why it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Its API object has a deletion timestamp.
    Deleted,
    /// This node decided it: told as Failed with these.
    Decided { reason: &'static str, message: String },
    /// It was told Succeeded or Failed before.
    Terminal,
}

/// `None`: it goes on. What this node decided is known even when the pod is deleted as well.
pub(super) fn end(pod: &Pod, observed: &ObservedPod, previous: &PodStatus, now: Timestamp) -> Option<End> {
    if previous::is_terminal(previous.phase.as_deref()) {
        return Some(End::Terminal);
    }
    if let Some(termination) = &observed.termination {
        return Some(End::Decided { reason: termination.reason, message: termination.message.clone() });
    }
    if deadline(pod, observed, previous).is_some_and(|deadline| deadline <= now) {
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        return Some(End::Decided { reason: reasons::pod::DEADLINE_EXCEEDED, message });
    }
    pod.metadata.deletion_timestamp.as_ref().map(|_| End::Deleted)
}

/// `activeDeadlineSeconds` after the pod's start.
pub(super) fn deadline(pod: &Pod, observed: &ObservedPod, previous: &PodStatus) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = start_time(observed, previous);
    Some(start.saturating_add(Duration::from_secs(seconds.try_into().unwrap_or(0))).unwrap_or(Timestamp::MAX))
}

/// What was told first stays.
pub(super) fn start_time(observed: &ObservedPod, previous: &PodStatus) -> Timestamp {
    previous.start_time.as_ref().map_or(observed.accepted_at, |time| time.0)
}

/// How long the pod's containers have from now on, all together: the shortest of what deletion and this node say, else
/// the pod's own, less what passed.
pub(super) fn grace_left(pod: &Pod, observed: &ObservedPod, now: Timestamp) -> Duration {
    let deletion = pod.metadata.deletion_grace_period_seconds.map(seconds);
    let decided = observed.termination.as_ref().and_then(|termination| termination.grace);
    let grace = match (deletion, decided) {
        (Some(deletion), Some(decided)) => deletion.min(decided),
        (Some(grace), None) | (None, Some(grace)) => grace,
        (None, None) => own_grace(pod),
    };
    let passed = observed.terminating_at.map_or(0, |since| now.duration_since(since).as_millis().max(0));
    grace.saturating_sub(Duration::from_millis(u64::try_from(passed).unwrap_or(u64::MAX)))
}

/// `terminationGracePeriodSeconds`.
pub(super) fn own_grace(pod: &Pod) -> Duration {
    pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).map_or(DEFAULT_GRACE, seconds)
}

pub(super) fn seconds(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}
