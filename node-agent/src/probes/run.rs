//! The probes of one attempt, until its worker ends them: the hook, then startup, then liveness and readiness side by side.

use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;
use samara_core::events::{self, Event};
use samara_core::pod::Failure;
use samara_core::probe::{Hook, Outcome, ProbeKind, ProbeResult, Prober};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::plan::{Begin, Plan};
use super::{Finding, Subject, hook, try_once};
use crate::metrics;

/// While nothing listens where a probe asks, it is tried again when the front says that the guest has begun to listen, and
/// else so soon, doubled each time. That does not count as a failure: the first try that counts comes when something
/// listens, or when a whole period has passed.
const EAGER_FIRST: Duration = Duration::from_millis(10);
const EAGER_LAST: Duration = Duration::from_millis(160);

/// Tells what it finds, for as long as it is polled. Once its pod is `ending` nothing is to come of the hook, of startup and
/// of liveness; readiness is told to the end, for those who still send requests (KEP-1669; kubelet:
/// `StopLivenessAndStartup`).
pub async fn run(subject: Subject, plan: Plan, ending: CancellationToken, tell: impl Fn(Finding) + Send + Sync) {
    if ending.run_until_cancelled(begin(&subject, plan, &tell)).await != Some(Begun::Started) {
        return;
    }
    tokio::join!(ending.run_until_cancelled(liveness(&subject, plan, &tell)), readiness(&subject, plan, &tell));
}

#[derive(Debug, PartialEq, Eq)]
enum Begun {
    Started,
    Failed,
}

/// The hook and the startup probe.
async fn begin(subject: &Subject, plan: Plan, tell: &(impl Fn(Finding) + Send + Sync)) -> Begun {
    let failed = |failure| {
        tell(Finding::Failed(failure));
        Begun::Failed
    };
    if plan.hook
        && let Err(error) = hook(subject, Hook::PostStart).await
    {
        debug!(container = subject.container.name, error, "postStart hook failed");
        subject.record(events::post_start_failed());
        return failed(Failure::PostStartHook);
    }
    if let Some(probe) = subject.container.startup_probe.as_ref().filter(|_| plan.startup) {
        match startup(subject, probe, plan.begin).await {
            Outcome::Failure => return failed(Failure::Startup),
            Outcome::Success | Outcome::Unknown => {}
        }
    }
    if !plan.is_started() {
        tell(Finding::Started);
    }
    Begun::Started
}

async fn startup(subject: &Subject, probe: &Probe, begin: Begin) -> Outcome {
    let mut tries = Tries::new(subject, ProbeKind::Startup, probe, begin);
    loop {
        match tries.next().await {
            Outcome::Unknown => {}
            decided @ (Outcome::Success | Outcome::Failure) => return decided,
        }
    }
}

async fn liveness(subject: &Subject, plan: Plan, tell: &(impl Fn(Finding) + Send + Sync)) {
    let Some(probe) = &subject.container.liveness_probe else { return };
    let mut tries = Tries::new(subject, ProbeKind::Liveness, probe, plan.begin);
    while tries.next().await != Outcome::Failure {}
    // Said once: the worker ends the attempt, and with it these probes.
    tell(Finding::Failed(Failure::Liveness));
    std::future::pending().await
}

async fn readiness(subject: &Subject, plan: Plan, tell: &(impl Fn(Finding) + Send + Sync)) {
    let Some(probe) = &subject.container.readiness_probe else { return };
    let mut tries = Tries::new(subject, ProbeKind::Readiness, probe, plan.begin);
    let mut told = tries.prober.outcome();
    loop {
        let outcome = tries.next().await;
        if outcome != told {
            match outcome {
                Outcome::Success => tell(Finding::Ready),
                Outcome::Failure => tell(Finding::NotReady),
                Outcome::Unknown => {}
            }
            told = outcome;
        }
    }
}

/// One probe, tried when it is due.
struct Tries<'a> {
    subject: &'a Subject,
    probe: &'a Probe,
    prober: Prober,
    last: Option<Timestamp>,
    begin: Begin,
}

impl<'a> Tries<'a> {
    fn new(subject: &'a Subject, kind: ProbeKind, probe: &'a Probe, begin: Begin) -> Self {
        let prober = match (kind, begin) {
            (ProbeKind::Readiness, Begin::Adopted { started: true, ready: true }) => {
                Prober::resumed(kind, probe, subject.started_at, Outcome::Success)
            }
            (_, Begin::Fresh | Begin::Adopted { .. }) => Prober::new(kind, probe, subject.started_at),
        };
        Self { subject, probe, prober, last: None, begin }
    }

    /// Where the probe stands after the next try.
    async fn next(&mut self) -> Outcome {
        sleep_until(self.prober.next(self.last)).await;
        let mut result = self.try_once().await;
        if self.last.is_none() && self.begin == Begin::Fresh && self.prober.kind() != ProbeKind::Liveness {
            result = self.until_it_listens(result).await;
        }
        self.last = Some(Timestamp::now());
        self.subject.count(self.prober.kind(), &result.result);
        if let Some(event) = self.prober.observe(&result.result) {
            self.subject.record(Event::warning(event.reason, event.message));
        }
        self.prober.outcome()
    }

    async fn until_it_listens(&self, mut result: try_once::Tried) -> try_once::Tried {
        let now = Timestamp::now();
        let patience = self.prober.next(Some(now)).duration_since(now);
        let give_up = tokio::time::Instant::now() + Duration::try_from(patience).unwrap_or_default();
        let mut pause = EAGER_FIRST;
        // Heard of once: what is asked may be another of its sockets, or another host's.
        let mut listens = pin!(self.subject.task.listens());
        let mut has_heard = false;
        while result.refused && tokio::time::Instant::now() + pause < give_up {
            tokio::select! {
                () = &mut listens, if !has_heard => has_heard = true,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(EAGER_LAST),
            }
            result = self.try_once().await;
        }
        result
    }

    async fn try_once(&self) -> try_once::Tried {
        Box::pin(try_once::try_once(self.subject, self.probe, self.prober.timeout())).await
    }
}

impl Subject {
    fn count(&self, kind: ProbeKind, result: &ProbeResult) {
        let probe_type = match kind {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        };
        let result = match result {
            ProbeResult::Success | ProbeResult::Warning { .. } => metrics::ProbeResult::successful,
            ProbeResult::Failure { .. } => metrics::ProbeResult::failed,
            ProbeResult::Unknown { .. } => metrics::ProbeResult::unknown,
        };
        metrics::agent().probes.count(metrics::ProbeLabels {
            container: self.container.name.clone(),
            namespace: self.pod_ref.namespace.to_string(),
            pod: self.pod_ref.name.to_string(),
            pod_uid: self.pod_ref.uid.to_string(),
            probe_type,
            result,
        });
    }

    fn record(&self, event: Event) {
        self.context.record_container(&self.pod_ref, &self.pod, &self.container.name, event);
    }
}

async fn sleep_until(at: Timestamp) {
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}
