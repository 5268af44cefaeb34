//! Whatever happens to a pod: phases and restart counts only go forward, and what is decided is carried out in a
//! bounded number of steps.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proptest::prelude::*;

use crate::fixtures::{ObservedExt, PodExt, at, exit, observed, pod};
use crate::pod::{ContainerState, KillReason, ObservedPod, Stopping, Waiting, compute, status};

/// What may happen between two looks at a pod.
#[derive(Debug, Clone)]
enum Event {
    /// One running container ends.
    Exit {
        which: usize,
        code: i32,
    },
    /// Records of older attempts are removed.
    Forget,
    /// All records are gone: the node was rebooted.
    Reboot,
    Pass {
        seconds: i64,
    },
    EffectFails {
        which: usize,
    },
    Delete,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_usize..4, 0_i32..3).prop_map(|(which, code)| Event::Exit { which, code }),
        1 => Just(Event::Forget),
        1 => Just(Event::Reboot),
        4 => (0_i64..400).prop_map(|seconds| Event::Pass { seconds }),
        1 => (0_usize..4).prop_map(|which| Event::EffectFails { which }),
        1 => Just(Event::Delete),
    ]
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, 0_usize..2, 0_usize..2, 1_usize..3, prop::option::of(1_i64..2000)).prop_map(
        |(policy, inits, sidecars, containers, deadline)| {
            let mut made = pod("any").restart(policy).spec(|spec| spec.active_deadline_seconds = deadline);
            for index in 0..inits {
                made = made.init(&format!("init-{index}"));
            }
            for index in 0..sidecars {
                made = made.sidecar(&format!("sidecar-{index}"));
            }
            for index in 0..containers {
                made = made.container(&format!("app-{index}"));
            }
            made
        },
    )
}

/// A node that carries out what is decided, at once.
struct Node {
    pod: Pod,
    observed: ObservedPod,
    told: PodStatus,
    now: i64,
}

impl Node {
    fn step(&mut self, event: &Event) {
        match event {
            Event::Exit { which, code } => self.exit(*which, *code, None),
            Event::Forget => {
                let observed = self.observed.clone();
                self.observed.containers.retain(|container| {
                    observed.latest(&container.name).is_some_and(|latest| latest.attempt == container.attempt)
                });
            }
            Event::Reboot => {
                self.observed = ObservedPod { terminating_at: self.observed.terminating_at, ..observed() };
            }
            Event::Pass { seconds } => self.now += seconds,
            Event::EffectFails { which } => {
                let names: Vec<_> = self.told.container_statuses.iter().flatten().map(|c| c.name.clone()).collect();
                if let Some(name) = names.get(which % names.len().max(1)) {
                    let waiting =
                        Waiting { reason: "ErrImagePull", message: "no".to_owned(), retry_at: Some(at(self.now + 10)) };
                    self.observed.waiting.insert(name.clone(), waiting);
                }
            }
            Event::Delete => self.pod = self.pod.clone().deleted(at(self.now), 30),
        }
    }

    fn exit(&mut self, which: usize, code: i32, killed: Option<KillReason>) {
        let now = self.now;
        let mut running = self.observed.containers.iter_mut().filter(|container| container.running().is_some());
        if let Some(container) = running.nth(which) {
            container.state = ContainerState::Exited(crate::pod::Exit { killed, ..exit(code, now) });
        }
    }

    /// Decides and carries out until nothing is left to do now; the number of rounds.
    fn settle(&mut self) -> usize {
        for round in 1..20 {
            let actions = compute(&self.pod, &self.observed, &self.told, at(self.now));
            for kill in &actions.kill {
                let position = self.observed.containers.iter().position(|container| container.id == kill.id).unwrap();
                let stopping = Stopping { since: at(self.now), grace: kill.grace };
                let container = &mut self.observed.containers[position];
                if let ContainerState::Running(running) = &mut container.state {
                    running.stopping = Some(stopping);
                }
                container.state =
                    ContainerState::Exited(crate::pod::Exit { killed: Some(kill.reason), ..exit(143, self.now) });
            }
            for start in &actions.start {
                let observed = std::mem::replace(&mut self.observed, ObservedPod::new(at(0)));
                self.observed = observed.runs(&self.pod, &start.name, start.attempt, self.now);
                self.observed.waiting.remove(&start.name);
                match start.delay {
                    Some(delay) => self.observed.delays.insert(start.name.clone(), delay),
                    None => self.observed.delays.remove(&start.name),
                };
            }
            self.tell();
            if actions.kill.is_empty() && actions.start.is_empty() {
                return round;
            }
        }
        usize::MAX
    }

    fn tell(&mut self) {
        self.told = status(&self.pod, &self.observed, &self.told, at(self.now));
        if self.pod.metadata.deletion_timestamp.is_some() {
            self.observed.terminating_at.get_or_insert(at(self.now));
        }
    }

    fn counts(&self) -> BTreeMap<String, i32> {
        let all = self.told.container_statuses.iter().chain(&self.told.init_container_statuses).flatten();
        all.map(|status| (status.name.clone(), status.restart_count)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn phases_and_restart_counts_only_go_forward(pod in any_pod(), events in prop::collection::vec(event(), 0..24)) {
        let mut node = Node { pod, observed: observed(), told: PodStatus::default(), now: 0 };
        node.settle();
        for event in &events {
            let (phase, counts) = (node.told.phase.clone(), node.counts());
            node.step(event);
            node.tell();
            prop_assert!(node.settle() < 20, "it never comes to rest after {event:?}");
            let was_final = matches!(phase.as_deref(), Some("Succeeded" | "Failed"));
            prop_assert!(!was_final || node.told.phase == phase, "{phase:?} became {:?}", node.told.phase);
            for (name, count) in &counts {
                let now = node.counts().get(name).copied().unwrap_or(0);
                prop_assert!(now >= *count, "restarts of {name}: {count} became {now} after {event:?}");
            }
            if matches!(node.told.phase.as_deref(), Some("Succeeded" | "Failed")) {
                prop_assert!(!node.observed.any_running(), "something runs in a pod that is over");
            }
        }
    }

    #[test]
    fn a_deleted_pod_comes_to_its_end(pod in any_pod(), events in prop::collection::vec(event(), 0..12)) {
        let mut node = Node { pod, observed: observed(), told: PodStatus::default(), now: 0 };
        for event in events.iter().chain([&Event::Delete]) {
            node.step(event);
            node.settle();
        }
        let actions = compute(&node.pod, &node.observed, &node.told, at(node.now));
        prop_assert!(actions.finished);
        prop_assert!(actions.start.is_empty() && actions.kill.is_empty());
        prop_assert!(matches!(node.told.phase.as_deref(), Some("Succeeded" | "Failed")), "{:?}", node.told.phase);
    }

    #[test]
    fn asking_twice_gives_the_same_answer(pod in any_pod(), events in prop::collection::vec(event(), 0..12)) {
        let mut node = Node { pod, observed: observed(), told: PodStatus::default(), now: 0 };
        for event in &events {
            node.step(event);
            let ask = |node: &Node| compute(&node.pod, &node.observed, &node.told, at(node.now));
            prop_assert_eq!(ask(&node), ask(&node));
            node.settle();
            let told = node.told.clone();
            node.tell();
            prop_assert_eq!(&node.told, &told, "a status that was told is told again");
        }
    }
}
