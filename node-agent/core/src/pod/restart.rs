//! Whether a container that does not run is started, and when (kubelet: `container/helpers.go`, `doBackOff`; KEP-5307).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec, PodStatus};

use super::actions::KillReason;
use super::observed::{ContainerState, ObservedPod};
use super::previous;
use crate::backoff::Delay;
use crate::oci::spec_hash;

/// An init container with `restartPolicy: Always` (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What becomes of one container now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It runs.
    Keep,
    /// It ended, with this exit code, and stays so.
    Done(i32),
    Start {
        attempt: u32,
        delay: Option<Delay>,
    },
    /// It will be started, not now.
    Wait {
        until: Timestamp,
        why: Why,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The effect before failed.
    Effect,
    CrashLoop {
        back_off: Duration,
    },
}

/// The rules of one container's `restartPolicyRules` first, then its own policy, then the pod's.
pub(super) fn restarts(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    let by_policy = |policy: &str| match policy {
        "OnFailure" => exit_code != 0,
        "Never" => false,
        _ => true,
    };
    let pod_policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let Some(policy) = container.restart_policy.as_deref() else {
        return by_policy(pod_policy);
    };
    let rules = container.restart_policy_rules.iter().flatten();
    rules.into_iter().any(|rule| rule_restarts(rule, exit_code)) || by_policy(policy)
}

fn rule_restarts(rule: &ContainerRestartRule, exit_code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else { return false };
    let listed = codes.values.iter().flatten().any(|value| *value == exit_code);
    let matches = match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    matches && rule.action == "Restart"
}

/// Whether a failure of its probes leads to a restart: rules do not count, it has no exit code yet.
pub(super) fn restarts_after_kill(spec: &PodSpec, container: &Container) -> bool {
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
    policy != Some("Never")
}

/// The next step for one container, whatever the others do.
pub(super) fn next(
    spec: &PodSpec,
    container: &Container,
    observed: &ObservedPod,
    previous: &PodStatus,
    now: Timestamp,
) -> Next {
    let told = previous::container(previous, &container.name);
    let number_before = told.and_then(previous::last_attempt);
    let Some(latest) = observed.latest(&container.name) else {
        // Nothing of it is here: what was told of it is all that is known.
        let attempt = number_before.map_or(0, |number| number + 1);
        return match told.and_then(previous::ending) {
            Some((code, _)) if !restarts(spec, container, code) => Next::Done(code),
            Some((_, finished_at)) => start_or_wait(container, observed, attempt, finished_at, now),
            None => start_or_wait(container, observed, attempt, None, now),
        };
    };
    let attempt = latest.attempt.max(number_before.unwrap_or(0)).saturating_add(1);
    match &latest.state {
        ContainerState::Running(_) => Next::Keep,
        ContainerState::Created => start_or_wait(container, observed, attempt, None, now),
        ContainerState::Exited(exit) => {
            if exit.killed != Some(KillReason::SpecChanged) && !restarts(spec, container, exit.exit_code) {
                return Next::Done(exit.exit_code);
            }
            // Another image begins without a restart delay.
            let changed = latest.spec_hash != spec_hash(container);
            start_or_wait(container, observed, attempt, (!changed).then_some(exit.finished_at), now)
        }
    }
}

fn start_or_wait(
    container: &Container,
    observed: &ObservedPod,
    attempt: u32,
    failed_at: Option<Timestamp>,
    now: Timestamp,
) -> Next {
    let effect = observed.waiting.get(&container.name).and_then(|waiting| waiting.retry_at).filter(|at| *at > now);
    if let Some(until) = effect {
        return Next::Wait { until, why: Why::Effect };
    }
    let Some(failed_at) = failed_at else { return Next::Start { attempt, delay: None } };
    let delay = observed.delays.get(&container.name);
    let backoff = observed.restart_backoff;
    match (backoff.wait_until(delay, failed_at, now), delay) {
        (Some(until), Some(delay)) => Next::Wait { until, why: Why::CrashLoop { back_off: delay.duration } },
        _ => Next::Start { attempt, delay: Some(backoff.next(delay, failed_at, now)) },
    }
}
