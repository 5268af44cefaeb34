//! Observe: what the dispatcher wishes and what effects report.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use samara_core::pod::{CONTAINER_ID_SCHEME, ContainerState, Exit, Running as RunningState, Termination};
use samara_inside::remove_directory_at;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Attempt, Probes, SandboxState, Worker, container};
use crate::metrics;
use crate::pods::dispatch::ApiObject;
use crate::pods::happened::{Happened, Key, Started};
use crate::pods::table::Running;
use crate::pods::{PodRef, ending, logs};
use crate::probes::{self, Finding};
use crate::shims::{Ended, Record, Task};
use crate::starts::Phase;

impl Worker {
    pub(super) fn take_wish(&mut self) {
        let wish = self.wishes.borrow_and_update().clone();
        if wish.pod.metadata.generation != self.pod.metadata.generation {
            self.observed.waiting.clear();
        }
        self.cell.set_pod(wish.pod.clone());
        if wish.tell == self.tell {
            self.reconcile(wish.pod.status.as_ref());
        } else {
            self.tell_another(wish.tell, wish.pod.status.as_ref());
        }
        self.pod = wish.pod;
        self.object = wish.object;
        if let Some(termination) = wish.termination {
            self.observed.termination.get_or_insert(termination);
        }
        if self.object == ApiObject::Gone {
            self.observed.termination.get_or_insert_with(|| gone(&self.pod));
        }
    }

    /// What was told and then read back differently was changed by another hand: the node controller's, when it had not
    /// heard of us for a while. It is told again.
    fn reconcile(&mut self, theirs: Option<&PodStatus>) {
        let Some(theirs) = theirs else { return };
        if readiness(theirs) == readiness(&self.told) {
            self.read_back = true;
        } else if self.read_back {
            self.read_back = false;
            self.told = theirs.clone();
        }
    }

    /// A mirror is there, or there anew. What the first one says was told by the agent before this one.
    fn tell_another(&mut self, tell: Option<PodRef>, theirs: Option<&PodStatus>) {
        if let (None, Some(theirs)) = (&self.tell, theirs.filter(|status| status.container_statuses.is_some())) {
            self.told = theirs.clone();
        }
        self.untold = tell.is_some();
        self.tell = tell;
        self.read_back = false;
    }

    pub(super) fn take(&mut self, happened: Happened) {
        match happened {
            Happened::SandboxReady(sandbox) => {
                self.observed.sandbox = sandbox.observed();
                if let SandboxState::Making(keeper) = &self.sandbox {
                    self.sandbox = SandboxState::Ready(sandbox, keeper.clone());
                }
            }
            Happened::SandboxDown => {
                self.sandbox = SandboxState::Down;
                self.observed.sandbox.ready = false;
            }
            Happened::ObjectsChanged => self.observed.waiting.clear(),
            Happened::Started(started) => self.started(*started),
            Happened::NotStarted { name, waiting } => {
                self.starting.remove(&name);
                self.observed.waiting.insert(name, waiting);
            }
            Happened::CalledOff { name } => drop(self.starting.remove(&name)),
            Happened::Probed { key, finding } => self.probed(&key, finding),
            Happened::Ended { key, ended } => self.ended(&key, &ended),
        }
    }

    fn started(&mut self, started: Started) {
        let Started { task, record, delay } = started;
        self.starting.remove(&record.name);
        self.observed.waiting.remove(&record.name);
        match delay {
            Some(delay) => drop(self.observed.delays.insert(record.name.clone(), delay)),
            None => drop(self.observed.delays.remove(&record.name)),
        }
        self.forget_old_attempts(&record.name, record.attempt);
        self.look_after(task, record, probes::Begin::Fresh);
    }

    /// An attempt of an earlier agent.
    pub(super) fn adopt(&mut self, task: Task, record: Record) {
        if record.ended.is_some() {
            self.publish(&task, &record);
            self.observed.containers.push(record.observed());
            return;
        }
        // What was told of an attempt before this one is not true of this one.
        let id = format!("{CONTAINER_ID_SCHEME}{}", record.id);
        let told = self.told.container_statuses.iter().chain(&self.told.init_container_statuses).flatten();
        let told = told.into_iter().find(|told| told.name == record.name && told.container_id.as_ref() == Some(&id));
        let started = told.is_some_and(|told| told.started == Some(true));
        let ready = told.is_some_and(|told| told.ready);
        self.look_after(task, record, probes::Begin::Adopted { started, ready });
    }

    /// Waits for its end, and probes it meanwhile.
    fn look_after(&mut self, task: Task, record: Record, begin: probes::Begin) {
        let key: Key = (record.name.clone(), record.attempt);
        let since = Instant::now();
        self.observed.containers.push(record.observed());
        self.publish(&task, &record);
        let Some(container) = container(&self.pod, &record.name).cloned() else {
            self.follow(&key, &task, &record, None);
            self.attempts
                .insert(key, Attempt { task, record, since, deadline: None, probes: None, stop: None, killed: None });
            return;
        };
        self.follow(&key, &task, &record, Some(container.clone()));
        let plan = probes::Plan::of(&container, begin);
        if let Some((_, running)) = self.running_mut(&key) {
            running.started = plan.is_started();
            running.ready = plan.is_ready();
        }
        let probes = plan.is_any().then(|| {
            let subject = probes::Subject {
                context: self.context.clone(),
                pod_ref: self.pod_ref.clone(),
                pod: self.pod.clone(),
                container,
                pod_ip: self.pod_ip(),
                task: task.clone(),
                started_at: record.started_at.unwrap_or_else(Timestamp::now),
            };
            let sender = self.sender.clone();
            let of = key.clone();
            let tell = move |finding| drop(sender.send(Happened::Probed { key: of.clone(), finding }));
            let ending = CancellationToken::new();
            let handle = self.spawn(Box::pin(probes::run(subject, plan, ending.clone(), tell)));
            Probes { handle, ending }
        });
        self.attempts.insert(key, Attempt { task, record, since, deadline: None, probes, stop: None, killed: None });
    }

    fn follow(&mut self, key: &Key, task: &Task, record: &Record, container: Option<Container>) {
        let follow = ending::Follow {
            layout: self.context.layout.clone(),
            pod_uid: self.pod_ref.uid.clone(),
            task: task.clone(),
            record: record.clone(),
            container,
        };
        let (sender, key) = (self.sender.clone(), key.clone());
        self.spawn(async move {
            let ended = ending::follow(follow).await;
            drop(sender.send(Happened::Ended { key, ended }));
        });
    }

    /// Of an adopted pod it may only be known from what was told: the network comes up beside it.
    pub(super) fn pod_ip(&self) -> Option<IpAddr> {
        let told = || self.told.pod_ip.as_ref()?.parse().ok();
        self.observed.sandbox.pod_ips.first().copied().or_else(told)
    }

    fn probed(&mut self, key: &Key, finding: Finding) {
        let Some((_, running)) = self.running_mut(key) else { return };
        match finding {
            Finding::Started => running.started = true,
            Finding::Ready => {
                running.ready = true;
                if let Some(attempt) = self.attempts.get(key) {
                    let begun = attempt.since.into_std();
                    self.context.starts.took(&self.pod_ref.uid, Phase::Readiness, Some(&key.0), begun);
                }
            }
            Finding::NotReady => running.ready = false,
            Finding::Failed(failure) => running.failure = Some(failure),
        }
    }

    fn ended(&mut self, key: &Key, ended: &Ended) {
        let Some(attempt) = self.attempts.remove(key) else { return };
        let probes = attempt.probes.iter().map(|probes| &probes.handle);
        probes.chain(&attempt.stop).for_each(AbortHandle::abort);
        let record = Record { ended: Some(ended.clone()), ..attempt.record };
        metrics::agent().container_terminated(record.init, ended.exit_code);
        info!(
            container = key.0,
            attempt = key.1,
            exit_code = ended.exit_code,
            oom = ended.oom_killed,
            "container ended"
        );
        self.publish(&attempt.task, &record);
        if let Some(container) =
            self.observed.containers.iter_mut().find(|one| one.name == key.0 && one.attempt == key.1)
        {
            let exit = Exit { killed: attempt.killed, ..ended.to_exit(record.started_at) };
            container.state = ContainerState::Exited(exit);
        }
    }

    /// The newest attempt and the one before are told of; older ones are nobody's interest.
    fn forget_old_attempts(&mut self, name: &str, newest: u32) {
        let old = |attempt: u32| attempt + 1 < newest;
        for container in self.observed.containers.iter().filter(|one| one.name == name && old(one.attempt)) {
            let bundle = self.context.layout.bundle(&self.pod_ref.uid, name, container.attempt);
            drop(remove_directory_at(&bundle));
            let own = self.context.layout.container(&self.pod_ref.uid, name, container.attempt);
            drop(remove_directory_at(&own));
            logs::remove_attempt(&self.context.layout, &self.pod_ref, name, container.attempt, &container.id);
        }
        self.observed.containers.retain(|one| one.name != name || !old(one.attempt));
    }

    fn publish(&self, task: &Task, record: &Record) {
        let state = record.observed().state;
        let running = Running { task: task.clone(), attempt: record.attempt, log: record.log.clone(), state };
        self.cell.set_container(&record.name, running);
    }

    pub(super) fn running_mut(&mut self, key: &Key) -> Option<(&str, &mut RunningState)> {
        let containers = self.observed.containers.iter_mut();
        containers.filter(|one| one.name == key.0 && one.attempt == key.1).find_map(|one| match &mut one.state {
            ContainerState::Running(running) => Some((one.id.as_str(), running)),
            ContainerState::Created | ContainerState::Exited(_) => None,
        })
    }
}

/// The object was deleted without us: the pod ends, within its own grace.
fn gone(pod: &Pod) -> Termination {
    let deletion = pod.metadata.deletion_grace_period_seconds;
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let grace = deletion.or(own).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30);
    Termination {
        reason: "",
        message: String::new(),
        requested_at: Timestamp::now(),
        grace: Some(Duration::from_secs(grace)),
    }
}

fn readiness(status: &PodStatus) -> Option<&str> {
    status.conditions.iter().flatten().find(|one| one.type_ == "Ready").map(|one| one.status.as_str())
}
