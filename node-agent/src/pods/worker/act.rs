//! Do: what the rules said, as effects.

use std::collections::BTreeSet;

use jiff::Timestamp;
use samara_core::events;
use samara_core::pod::{KillContainer, KillReason, PodActions, StartContainer, Stopping};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info};

use super::{SandboxState, Worker, container};
use crate::metrics;
use crate::pods::happened::Happened;
use crate::pods::sandbox;
use crate::pods::start::{self, Start};
use crate::pods::stop::{self, Stop};

impl Worker {
    pub(super) fn carry_out(&mut self, actions: &PodActions, now: Timestamp) {
        if actions.make_sandbox || (!actions.finished && self.needs_sandbox_of_adopted()) {
            self.make_sandbox();
        }
        for kill in &actions.kill {
            self.stop(kill, now);
        }
        for (name, call_off) in &self.starting {
            if !actions.start.iter().any(|start| start.name == *name) {
                call_off.cancel();
            }
        }
        for start in &actions.start {
            self.start(start);
        }
        self.record_back_offs(&actions.backing_off);
        if actions.finished && self.starting.is_empty() {
            self.life.terminated(now);
            self.take_down();
        }
    }

    /// Its containers run, but nobody in this agent keeps its volumes yet.
    fn needs_sandbox_of_adopted(&self) -> bool {
        self.observed.sandbox.ready && matches!(self.sandbox, SandboxState::None)
    }

    fn make_sandbox(&mut self) {
        if !matches!(self.sandbox, SandboxState::None) {
            return;
        }
        if !self.observed.sandbox.ready {
            metrics::agent().pod_started();
        }
        let effect = sandbox::make_and_keep(
            self.context.clone(),
            self.pod_ref.clone(),
            self.wishes.clone(),
            self.sender.clone(),
        );
        let handle = self.spawn(effect);
        self.sandbox = SandboxState::Making(handle);
    }

    fn take_down(&mut self) {
        match std::mem::replace(&mut self.sandbox, SandboxState::TakingDown) {
            SandboxState::None => {}
            SandboxState::Making(keeper) | SandboxState::Ready(_, keeper) => keeper.abort(),
            kept @ (SandboxState::TakingDown | SandboxState::Down) => {
                self.sandbox = kept;
                return;
            }
        }
        let (context, pod_ref, sender) = (self.context.clone(), self.pod_ref.clone(), self.sender.clone());
        self.spawn(async move {
            sandbox::take_down(&context, &pod_ref).await;
            drop(sender.send(Happened::SandboxDown));
        });
    }

    fn start(&mut self, action: &StartContainer) {
        let SandboxState::Ready(sandbox, _) = &self.sandbox else { return };
        if self.starting.contains_key(&action.name) {
            return;
        }
        let call_off = CancellationToken::new();
        let request = Start {
            context: self.context.clone(),
            pod_ref: self.pod_ref.clone(),
            pod: self.pod.clone(),
            sandbox: sandbox.clone(),
            action: action.clone(),
            call_off: call_off.clone(),
        };
        self.starting.insert(action.name.clone(), call_off);
        let sender = self.sender.clone();
        self.spawn(async move { drop(sender.send(Box::pin(start::start(request)).await)) });
    }

    fn stop(&mut self, kill: &KillContainer, now: Timestamp) {
        let key = (kill.name.clone(), kill.attempt);
        let deadline = Instant::now() + kill.grace;
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        let first = attempt.deadline.is_none();
        let until = attempt.deadline.get_or_insert_with(|| watch::Sender::new(deadline));
        until.send_if_modified(|until| {
            let sooner = deadline < *until;
            *until = (*until).min(deadline);
            sooner
        });
        let until = until.subscribe();
        attempt.killed.get_or_insert(kill.reason);
        let task = attempt.task.clone();
        if let Some(running) = self.running_mut(&key) {
            running.1.stopping = Some(Stopping { since: now, grace: kill.grace });
        }
        if !first {
            return;
        }
        info!(container = kill.name, attempt = kill.attempt, reason = ?kill.reason, grace = ?kill.grace, "ending container");
        if kill.reason != KillReason::Leftover {
            self.record_container(&kill.name, events::killing(&kill.message));
        }
        let hook = container(&self.pod, &kill.name).filter(|_| kill.reason != KillReason::Leftover).cloned();
        let stop = Stop {
            context: self.context.clone(),
            pod_ref: self.pod_ref.clone(),
            pod: self.pod.clone(),
            pod_ip: self.pod_ip(),
            name: kill.name.clone(),
            container: hook,
            task,
            until,
        };
        let handle = self.spawn(Box::pin(stop::stop(stop)));
        if let Some(attempt) = self.attempts.get_mut(&key) {
            attempt.stop = Some(handle);
            if let Some(probes) = attempt.probes.as_ref().filter(|_| kill.reason == KillReason::PodTerminating) {
                probes.ending.cancel();
            }
        }
    }

    fn record_back_offs(&mut self, names: &[String]) {
        let names: BTreeSet<String> = names.iter().cloned().collect();
        for name in names.difference(&self.backing_off) {
            self.record_container(name, events::back_off_restart(name, &self.pod));
        }
        self.backing_off = names;
    }

    fn record_container(&self, name: &str, event: events::Event) {
        self.context.record_container(&self.pod_ref, &self.pod, name, event);
    }

    pub(super) fn spawn(&mut self, effect: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.effects.spawn(effect.instrument(Span::current()))
    }
}
