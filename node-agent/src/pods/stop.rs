//! Ends one attempt: preStop hook, the stop signal, and SIGKILL when its time is up. Nothing hangs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use samara_core::events;
use samara_core::probe::Hook;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::PodRef;
use super::context::Context;
use crate::probes::{self, Subject};
use crate::shims::{Signal, Task};

/// After SIGKILL, and after a signal that could not be sent.
const AGAIN: Duration = Duration::from_secs(2);
/// SIGTERM. A `wasi:http` guest drains, a command ends.
const STOP_SIGNAL: u32 = 15;

/// What is to end.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) context: Arc<Context>,
    pub(super) pod_ref: PodRef,
    pub(super) pod: Arc<Pod>,
    pub(super) pod_ip: Option<IpAddr>,
    /// Of the container.
    pub(super) name: String,
    /// `None`: no hook, no grace.
    pub(super) container: Option<Container>,
    pub(super) task: Task,
    /// SIGKILL at this time; it may move nearer.
    pub(super) until: watch::Receiver<Instant>,
}

/// Goes on until it is aborted: whoever waits for the attempt's end does that.
pub(super) async fn stop(mut stop: Stop) {
    if let Some(container) = stop.container.clone() {
        let hook = pre_stop(&stop, container);
        tokio::select! {
            () = hook => {}
            () = time_is_up(stop.until.clone()) => {}
        }
        if let Err(error) = stop.task.kill(Signal::Terminate(STOP_SIGNAL)).await {
            warn!(error = &error as &dyn std::error::Error, "stop signal not sent");
        }
        // Never killed without having had a moment to end by itself.
        let least = Instant::now() + samara_core::pod::MINIMUM_GRACE;
        if *stop.until.borrow_and_update() < least {
            sleep_until(least).await;
        } else {
            time_is_up(stop.until.clone()).await;
        }
    }
    loop {
        if let Err(error) = stop.task.kill(Signal::Kill).await {
            warn!(error = &error as &dyn std::error::Error, "SIGKILL not sent; trying again");
            stop.context.record(&stop.pod_ref, events::failed_kill_pod(&stop.name, &error.to_string()));
        }
        sleep(AGAIN).await;
    }
}

async fn pre_stop(stop: &Stop, container: Container) {
    let name = container.name.clone();
    let subject = Subject {
        context: stop.context.clone(),
        pod_ref: stop.pod_ref.clone(),
        pod: stop.pod.clone(),
        container,
        pod_ip: stop.pod_ip,
        task: stop.task.clone(),
        started_at: jiff::Timestamp::now(),
    };
    if let Err(error) = probes::hook(&subject, Hook::PreStop).await {
        warn!(container = name, error, "preStop hook failed");
        // Without the text: it might hold what the server answered.
        stop.context.record_container(&stop.pod_ref, &stop.pod, &name, events::pre_stop_failed());
    }
}

async fn time_is_up(mut until: watch::Receiver<Instant>) {
    loop {
        let at = *until.borrow_and_update();
        tokio::select! {
            () = sleep_until(at) => return,
            changed = until.changed() => if changed.is_err() { return sleep_until(at).await },
        }
    }
}
