//! What is to be tried of a container, and what it counts as before anything was.

use k8s_openapi::api::core::v1::Container;

/// How the agent came to this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It has just been started.
    Fresh,
    /// An earlier agent started it, and told this of it. Its hook does not run again, as with the kubelet, though nobody
    /// knows whether it had come to its end.
    Adopted { started: bool, ready: bool },
}

/// A container's probes and hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub(super) begin: Begin,
    pub(super) hook: bool,
    pub(super) startup: bool,
    pub(super) liveness: bool,
    pub(super) readiness: bool,
}

impl Plan {
    /// From the container's spec.
    pub fn of(container: &Container, begin: Begin) -> Self {
        let hook = container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some());
        let has_started = matches!(begin, Begin::Adopted { started: true, .. });
        Self {
            begin,
            hook: begin == Begin::Fresh && hook,
            startup: !has_started && container.startup_probe.is_some(),
            liveness: container.liveness_probe.is_some(),
            readiness: container.readiness_probe.is_some(),
        }
    }

    /// Nothing stands between its start and `started`.
    pub fn is_started(self) -> bool {
        !self.hook && !self.startup
    }

    /// It is ready as soon as it is started, or it was and stays so until its probe says otherwise (KEP-4781).
    pub fn is_ready(self) -> bool {
        !self.readiness || matches!(self.begin, Begin::Adopted { started: true, ready: true })
    }

    /// There is anything to do.
    pub fn is_any(self) -> bool {
        self.hook || self.startup || self.liveness || self.readiness
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Lifecycle, LifecycleHandler, Probe};

    use super::*;

    #[test]
    fn a_container_without_probes_is_started_and_ready_at_once() {
        let plan = Plan::of(&Container::default(), Begin::Fresh);
        assert!(plan.is_started() && plan.is_ready() && !plan.is_any());
    }

    const ADOPTED: [Begin; 3] = [
        Begin::Adopted { started: false, ready: false },
        Begin::Adopted { started: true, ready: false },
        Begin::Adopted { started: true, ready: true },
    ];

    #[test]
    fn a_hook_runs_in_the_life_of_the_agent_that_started_its_container_or_never() {
        let hook = Lifecycle { post_start: Some(LifecycleHandler::default()), ..Lifecycle::default() };
        let container = Container { lifecycle: Some(hook), ..Container::default() };
        let fresh = Plan::of(&container, Begin::Fresh);
        assert!(!fresh.is_started() && fresh.is_any());
        for begin in ADOPTED {
            let plan = Plan::of(&container, begin);
            assert!(plan.is_started() && !plan.is_any(), "{begin:?}");
        }
    }

    #[test]
    fn a_startup_probe_goes_on_until_it_has_passed() {
        let container = Container { startup_probe: Some(Probe::default()), ..Container::default() };
        assert!(!Plan::of(&container, Begin::Fresh).is_started());
        let started = ADOPTED.map(|begin| Plan::of(&container, begin).is_started());
        assert_eq!(started, [false, true, true]);
    }

    #[test]
    fn a_readiness_probe_keeps_it_from_being_ready_unless_it_was() {
        let container = Container { readiness_probe: Some(Probe::default()), ..Container::default() };
        assert!(!Plan::of(&container, Begin::Fresh).is_ready());
        for (begin, ready) in ADOPTED.into_iter().zip([false, false, true]) {
            let plan = Plan::of(&container, begin);
            assert!(plan.is_started() && plan.is_any());
            assert_eq!(plan.is_ready(), ready, "{begin:?}");
        }
    }
}
