//! Pods and observations for tests, said in few words: `pod("web").container("app").restart("Never")`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::oci::spec_hash;
use crate::pod::{ContainerKind, ContainerState, Exit, ObservedContainer, ObservedPod, Running, Sandbox};

/// So many seconds after the tests' epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// `default/<name>`, without containers.
pub(crate) fn pod(name: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some(format!("uid-{name}")),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some("node-1".to_owned()),
            restart_policy: Some("Always".to_owned()),
            termination_grace_period_seconds: Some(30),
            enable_service_links: Some(true),
            ..PodSpec::default()
        }),
        status: None,
    }
}

pub(crate) fn container(name: &str) -> Container {
    Container { name: name.to_owned(), image: Some(format!("reg.example/{name}:1")), ..Container::default() }
}

pub(crate) trait PodExt: Sized {
    fn change(self, change: impl FnOnce(&mut Pod)) -> Self;

    fn spec(self, change: impl FnOnce(&mut PodSpec)) -> Self {
        self.change(|pod| change(pod.spec.as_mut().unwrap()))
    }

    fn container(self, name: &str) -> Self {
        self.with(container(name))
    }

    fn with(self, container: Container) -> Self {
        self.spec(|spec| spec.containers.push(container))
    }

    fn init(self, name: &str) -> Self {
        self.with_init(container(name))
    }

    fn sidecar(self, name: &str) -> Self {
        self.with_init(Container { restart_policy: Some("Always".to_owned()), ..container(name) })
    }

    fn with_init(self, container: Container) -> Self {
        self.spec(|spec| spec.init_containers.get_or_insert_default().push(container))
    }

    fn restart(self, policy: &str) -> Self {
        self.spec(|spec| spec.restart_policy = Some(policy.to_owned()))
    }

    /// Its deletion was asked for at `when`.
    fn deleted(self, when: Timestamp, grace: i64) -> Self {
        self.change(|pod| {
            pod.metadata.deletion_timestamp = Some(Time(when));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
        })
    }
}

impl PodExt for Pod {
    fn change(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(&mut self);
        self
    }
}

/// Sets `resources.requests` and `resources.limits` from pairs.
pub(crate) fn sized(name: &str, requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
    let map = |pairs: &[(&str, &str)]| {
        let map = pairs.iter().map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned()))).collect();
        (!pairs.is_empty()).then_some(map)
    };
    let mut container = container(name);
    let resources = container.resources.get_or_insert_default();
    resources.requests = map(requests);
    resources.limits = map(limits);
    container
}

/// Accepted at 0, with a sandbox and addresses.
pub(crate) fn observed() -> ObservedPod {
    ObservedPod {
        host_ips: vec!["192.0.2.1".parse().unwrap()],
        sandbox: Sandbox { ready: true, pod_ips: vec!["10.0.0.7".parse().unwrap()] },
        ..ObservedPod::new(at(0))
    }
}

pub(crate) trait ObservedExt: Sized {
    fn attempt(self, pod: &Pod, name: &str, attempt: u32, state: ContainerState) -> Self;

    /// Started and ready since `since`.
    fn runs(self, pod: &Pod, name: &str, attempt: u32, since: i64) -> Self {
        let running = Running { started_at: at(since), started: true, ready: true, failure: None, stopping: None };
        self.attempt(pod, name, attempt, ContainerState::Running(running))
    }

    /// Ran for a second until `when`.
    fn exits(self, pod: &Pod, name: &str, attempt: u32, code: i32, when: i64) -> Self {
        self.attempt(pod, name, attempt, ContainerState::Exited(exit(code, when)))
    }
}

pub(crate) fn exit(code: i32, when: i64) -> Exit {
    Exit {
        exit_code: code,
        oom_killed: false,
        message: None,
        started_at: Some(at(when - 1)),
        finished_at: at(when),
        seen: true,
        killed: None,
    }
}

impl ObservedExt for ObservedPod {
    fn attempt(mut self, pod: &Pod, name: &str, attempt: u32, state: ContainerState) -> Self {
        let spec = pod.spec.as_ref().unwrap();
        let regular = spec.containers.iter().find(|container| container.name == name);
        let init = spec.init_containers.iter().flatten().find(|container| container.name == name);
        let kind = if regular.is_some() { ContainerKind::Regular } else { ContainerKind::Init };
        let container = regular.or(init).expect("a container of the pod");
        self.containers.push(ObservedContainer {
            name: name.to_owned(),
            kind,
            attempt,
            id: format!("{name}-{attempt}"),
            image: container.image.clone().unwrap(),
            image_id: format!("reg.example/{name}@sha256:00"),
            spec_hash: spec_hash(container),
            state,
        });
        self
    }
}
