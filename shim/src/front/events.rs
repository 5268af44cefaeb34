//! Events for containerd, in the order in which they happened. Without containerd they go nowhere.

use std::time::Duration;

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task as proto;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use tokio::sync::mpsc;

use samara_shim_client::bundle::ExitRecord;
use samara_shim_client::client::Standard;

/// Kept while containerd is away; the oldest go first.
const MOST_WAITING: usize = 4096;
/// How often and with which pause an event is tried.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create { id: String, bundle: String, standard: Standard, pid: i32 },
    Start { id: String, exec_id: String, pid: i32 },
    ExecAdded { id: String, exec_id: String },
    Oom { id: String },
    Exit { id: String, exec_id: String, record: ExitRecord },
    Delete { id: String, exec_id: String, pid: i32, exit_code: u32, exited_at_nanos: i64 },
    Paused { id: String },
    Resumed { id: String },
}

/// Where events go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Option<mpsc::UnboundedSender<Event>>);

impl Events {
    /// To containerd's ttrpc socket.
    pub(crate) fn to_containerd(address: String, namespace: String) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(forward(address, namespace, receiver));
        Self(Some(sender))
    }

    pub(crate) fn publish(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // The receiver lives as long as the runtime.
            let _ = sender.send(event);
        }
    }
}

async fn forward(address: String, namespace: String, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut client = None;
    while let Some(event) = events.recv().await {
        if events.len() > MOST_WAITING {
            tracing::warn!(?event, "containerd is away for too long: dropped");
            continue;
        }
        let mut request = ForwardRequest::new();
        request.set_envelope(envelope(&event, &namespace));
        for attempt in 1..=TRIES {
            match send(&mut client, &address, &request).await {
                Ok(()) => break,
                Err(error) if attempt == TRIES => tracing::warn!(?event, %error, "event not delivered"),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

async fn send(client: &mut Option<EventsClient>, address: &str, request: &ForwardRequest) -> ttrpc::Result<()> {
    let connected = match client.take() {
        Some(connected) => connected,
        None => EventsClient::new(Client::connect(&with_scheme(address)).await?),
    };
    connected.forward(ttrpc::context::with_duration(Duration::from_secs(5)), request).await?;
    *client = Some(connected);
    Ok(())
}

fn with_scheme(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("unix://{address}") }
}

fn envelope(event: &Event, namespace: &str) -> Envelope {
    let (topic, body) = encode(event);
    let mut envelope = Envelope::new();
    envelope.set_namespace(namespace.into());
    envelope.set_topic(topic.into());
    envelope.set_timestamp(timestamp(super::orphan::now()));
    envelope.set_event(body);
    envelope
}

/// Topic and message of each event.
fn encode(event: &Event) -> (&'static str, Any) {
    match event.clone() {
        Event::Create { id, bundle, standard, pid } => {
            let io = proto::TaskIO {
                stdin: standard.stdin,
                stdout: standard.stdout,
                stderr: standard.stderr,
                terminal: standard.terminal,
                ..proto::TaskIO::default()
            };
            let io = MessageField::some(io);
            let pid = pid.cast_unsigned();
            let message = proto::TaskCreate { container_id: id, bundle, io, pid, ..proto::TaskCreate::default() };
            (topics::TASK_CREATE_EVENT_TOPIC, any("TaskCreate", &message))
        }
        Event::Start { id, exec_id, pid } if exec_id.is_empty() => {
            let pid = pid.cast_unsigned();
            let message = proto::TaskStart { container_id: id, pid, ..proto::TaskStart::default() };
            (topics::TASK_START_EVENT_TOPIC, any("TaskStart", &message))
        }
        Event::Start { id, exec_id, pid } => {
            let pid = pid.cast_unsigned();
            let message =
                proto::TaskExecStarted { container_id: id, exec_id, pid, ..proto::TaskExecStarted::default() };
            (topics::TASK_EXEC_STARTED_EVENT_TOPIC, any("TaskExecStarted", &message))
        }
        Event::ExecAdded { id, exec_id } => {
            let message = proto::TaskExecAdded { container_id: id, exec_id, ..proto::TaskExecAdded::default() };
            (topics::TASK_EXEC_ADDED_EVENT_TOPIC, any("TaskExecAdded", &message))
        }
        Event::Oom { id } => {
            let message = proto::TaskOOM { container_id: id, ..proto::TaskOOM::default() };
            (topics::TASK_OOM_EVENT_TOPIC, any("TaskOOM", &message))
        }
        Event::Exit { id, exec_id, record } => {
            let message = proto::TaskExit {
                // containerd tells the first process by the container's own id.
                id: if exec_id.is_empty() { id.clone() } else { exec_id },
                container_id: id,
                pid: record.pid.cast_unsigned(),
                exit_status: record.exit_code,
                exited_at: MessageField::some(timestamp(record.exited_at_nanos)),
                ..proto::TaskExit::default()
            };
            (topics::TASK_EXIT_EVENT_TOPIC, any("TaskExit", &message))
        }
        Event::Delete { id, exec_id, pid, exit_code, exited_at_nanos } => {
            let message = proto::TaskDelete {
                container_id: id,
                id: exec_id,
                pid: pid.cast_unsigned(),
                exit_status: exit_code,
                exited_at: MessageField::some(timestamp(exited_at_nanos)),
                ..proto::TaskDelete::default()
            };
            (topics::TASK_DELETE_EVENT_TOPIC, any("TaskDelete", &message))
        }
        Event::Paused { id } => {
            let message = proto::TaskPaused { container_id: id, ..proto::TaskPaused::default() };
            (topics::TASK_PAUSED_EVENT_TOPIC, any("TaskPaused", &message))
        }
        Event::Resumed { id } => {
            let message = proto::TaskResumed { container_id: id, ..proto::TaskResumed::default() };
            (topics::TASK_RESUMED_EVENT_TOPIC, any("TaskResumed", &message))
        }
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    let mut any = Any::new();
    any.type_url = format!("containerd.events.{name}");
    // Plain data in memory: writing it cannot fail.
    any.value = message.write_to_bytes().unwrap_or_default();
    any
}

/// Protobuf's form of nanoseconds since the epoch.
pub(crate) fn timestamp(nanos: i64) -> Timestamp {
    let mut timestamp = Timestamp::new();
    timestamp.seconds = nanos.div_euclid(1_000_000_000);
    timestamp.nanos = i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    timestamp
}
