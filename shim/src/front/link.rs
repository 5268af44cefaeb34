//! The connection to a process's control thread: made at first use, and again when it was lost. A container lets a front
//! go that does not read, and another that connects to its socket takes the place of the first.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::container::control::{self, Connected, Control, ControlError, Event, Hello};
use samara_shim_client::bundle::Bundle;

/// A control thread answers at once, unless its container is paused or the host is out of its depth.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What comes with a new connection.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) hello: Hello,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// The connection, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Link(tokio::sync::Mutex<Option<Arc<Control>>>);

impl Link {
    /// One that is open. A new one is `heard` of.
    pub(crate) async fn open(&self, bundle: &Bundle, heard: impl FnOnce(Heard)) -> Result<Arc<Control>, ControlError> {
        let mut held = self.0.lock().await;
        if let Some(open) = held.as_ref().filter(|control| !control.is_closed()) {
            return Ok(Arc::clone(open));
        }
        let Connected { control, hello, events, terminal } = in_time(control::connect(bundle.dir())).await?;
        heard(Heard { hello, events, terminal });
        Ok(Arc::clone(held.insert(Arc::new(control))))
    }

    /// Takes over one that was made before anybody else could.
    pub(crate) fn set(&self, control: Control) {
        // Nobody holds the lock of what is not shared yet; if so, they made one of their own.
        if let Ok(mut held) = self.0.try_lock() {
            *held = Some(Arc::new(control));
        }
    }
}

/// The call's outcome, or that it took too long.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<T, ControlError>>) -> Result<T, ControlError> {
    match tokio::time::timeout(ANSWERS_WITHIN, call).await {
        Ok(done) => done,
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
