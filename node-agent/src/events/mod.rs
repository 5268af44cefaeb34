//! Events: recorded from anywhere without waiting, told to the API server behind everything that matters more.

mod correlator;
mod quiet;
mod sender;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use samara_core::events::Event;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use sender::{EventLoop, Source};

use crate::pace::Rate;

/// Events that wait while the API server is away; more are dropped and counted in the log.
const CAPACITY: usize = 4096;

/// `eventRecordQPS` and `eventBurst` of the kubelet.
pub const RATE: Rate = Rate { per_second: 50, burst: 100 };

/// Takes events; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(mpsc::Sender<Recorded>);

/// An event and what it is about.
#[derive(Debug)]
struct Recorded {
    object: ObjectReference,
    event: Event,
    at: Timestamp,
    /// The same moment, by a clock that nobody sets.
    happened: Instant,
}

impl Recorder {
    /// A recorder and the loop that sends what it takes.
    pub fn new(source: Source, rate: Rate) -> (Self, EventLoop) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self(sender), EventLoop::new(source, rate, receiver))
    }

    /// Records an event. Never waits: when the queue is full the event is dropped.
    pub fn record(&self, object: ObjectReference, event: Event) {
        let recorded = Recorded { object, event, at: Timestamp::now(), happened: Instant::now() };
        if self.0.try_send(recorded).is_err() {
            tracing::debug!("event dropped: the queue is full");
        }
    }
}
