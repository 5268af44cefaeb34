//! Sends events: one after the other, at the kubelet's rate, and not in the way of a pod's status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as ApiEvent, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use samara_core::events::EventType;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Recorded;
use super::correlator::{Act, Correlator, Key};
use super::quiet::Quiet;
use crate::pace::{Pace, Rate};
use crate::status::StatusFiles;

/// Who tells.
#[derive(Debug, Clone)]
pub struct Source {
    /// `kubelet`, because tools match it.
    pub component: &'static str,
    /// Name of the node.
    pub host: String,
}

/// The sending half.
#[derive(Debug)]
pub struct EventLoop {
    source: Source,
    receiver: mpsc::Receiver<Recorded>,
    correlator: Correlator,
    pace: Pace,
}

impl EventLoop {
    pub(super) fn new(source: Source, rate: Rate, receiver: mpsc::Receiver<Recorded>) -> Self {
        Self { source, receiver, correlator: Correlator::default(), pace: Pace::new(Some(rate), Instant::now()) }
    }

    /// Sends until `shutdown` or until every recorder is gone. `behind` is the number of status patches that wait.
    pub async fn run(mut self, client: Client, behind: watch::Receiver<usize>, shutdown: CancellationToken) {
        let mut quiet = Quiet::new(behind);
        loop {
            let recorded = tokio::select! {
                () = shutdown.cancelled() => return,
                recorded = self.receiver.recv() => recorded,
            };
            let Some(recorded) = recorded else { return };
            let (act, key) = self.correlator.decide(&recorded.object, &recorded.event, recorded.at);
            if act == Act::Drop {
                continue;
            }
            sleep_until(self.pace.take(Instant::now())).await;
            quiet.wait(recorded.happened).await;
            self.send(&client, recorded, act, key).await;
        }
    }

    /// Without an API server: into the log, each until it is told too often; warnings also beside the pod's status.
    pub async fn run_alone(mut self, files: StatusFiles, shutdown: CancellationToken) {
        while let Some(Some(recorded)) = shutdown.run_until_cancelled(self.receiver.recv()).await {
            let now = recorded.at;
            let (act, key) = self.correlator.decide(&recorded.object, &recorded.event, now);
            let object = &recorded.object;
            let pod = format!(
                "{}/{}",
                object.namespace.as_deref().unwrap_or_default(),
                object.name.as_deref().unwrap_or_default()
            );
            let (Act::Create { message } | Act::Count { message, .. }) = &act else { continue };
            if let Act::Create { .. } = act {
                self.correlator.created(key, String::new(), now);
            }
            match recorded.event.event_type {
                EventType::Normal => tracing::info!(pod, reason = recorded.event.reason, "{message}"),
                EventType::Warning => {
                    tracing::warn!(pod, reason = recorded.event.reason, "{message}");
                    let uid = object.uid.as_deref().unwrap_or_default();
                    files.warn(uid, &format!("{}: {message}", recorded.event.reason));
                }
            }
        }
    }

    async fn send(&mut self, client: &Client, recorded: Recorded, act: Act, key: Key) {
        let now = recorded.at;
        let namespace = recorded.object.namespace.as_deref().unwrap_or("default");
        let api = Api::<ApiEvent>::namespaced(client.clone(), namespace);
        let result = match act {
            Act::Drop => Ok(()),
            Act::Create { message } => {
                let event = self.event(&recorded, message, now);
                let name = event.metadata.name.clone().unwrap_or_default();
                let created = api.create(&PostParams::default(), &event).await.map(drop);
                if created.is_ok() {
                    self.correlator.created(key, name, now);
                }
                created
            }
            Act::Count { name, count, message } => {
                let patch = json!({ "count": count, "message": message, "lastTimestamp": Time(now) });
                let counted = api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop);
                if counted.is_err() {
                    self.correlator.lost(&key);
                }
                counted
            }
        };
        if let Err(error) = result {
            tracing::debug!(error = &error as &dyn std::error::Error, reason = recorded.event.reason, "event not told");
        }
    }

    fn event(&self, recorded: &Recorded, message: String, now: Timestamp) -> ApiEvent {
        let object = &recorded.object;
        let name = object.name.as_deref().unwrap_or_default();
        ApiEvent {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(object.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            type_: Some(
                match recorded.event.event_type {
                    EventType::Normal => "Normal",
                    EventType::Warning => "Warning",
                }
                .to_owned(),
            ),
            reason: Some(recorded.event.reason.to_owned()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.source.component.to_owned()),
                host: Some(self.source.host.clone()),
            }),
            reporting_component: Some(self.source.component.to_owned()),
            reporting_instance: Some(self.source.host.clone()),
            involved_object: object.clone(),
            ..ApiEvent::default()
        }
    }
}
