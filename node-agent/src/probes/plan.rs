//! What is to be tried of a container, and what it counts as before anything was.

use k8s_openapi::api::core::v1::Container;

/// How the agent came to this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It has just been started.
    Fresh,
    /// An earlier agent started it, and it had passed its hook and startup probe.
    Adopted,
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
        let fresh = begin == Begin::Fresh;
        let hook = container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some());
        Self {
            begin,
            hook: fresh && hook,
            startup: fresh && container.startup_probe.is_some(),
            liveness: container.liveness_probe.is_some(),
            readiness: container.readiness_probe.is_some(),
        }
    }

    /// Nothing stands between its start and `started`.
    pub fn is_started(self) -> bool {
        !self.hook && !self.startup
    }

    /// It is ready as soon as it is started.
    pub fn is_ready(self) -> bool {
        !self.readiness
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

    #[test]
    fn a_startup_probe_or_a_hook_keeps_it_from_being_started_and_an_adopted_one_has_passed_both() {
        let hook = Lifecycle { post_start: Some(LifecycleHandler::default()), ..Lifecycle::default() };
        let with_hook = Container { lifecycle: Some(hook), ..Container::default() };
        let with_probe = Container { startup_probe: Some(Probe::default()), ..Container::default() };
        for container in [with_hook, with_probe] {
            assert!(!Plan::of(&container, Begin::Fresh).is_started());
            let adopted = Plan::of(&container, Begin::Adopted);
            assert!(adopted.is_started() && !adopted.is_any());
        }
    }

    #[test]
    fn a_readiness_probe_keeps_it_from_being_ready() {
        let container = Container { readiness_probe: Some(Probe::default()), ..Container::default() };
        for begin in [Begin::Fresh, Begin::Adopted] {
            let plan = Plan::of(&container, begin);
            assert!(plan.is_started() && !plan.is_ready() && plan.is_any());
        }
    }
}
