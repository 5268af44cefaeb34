//! One attempt of a container in its front: every call survives the front's death, as the container does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use samara_shim_client::bundle::{Bundle, ExitRecord};
use samara_shim_client::{CreateTask, RootMount, Shim, ShimError, Standard, Status};
use tracing::{debug, warn};

use super::front::{Connection, Front};
use super::record::Ended;

/// A call that found its front gone is made again on the successor so often.
const TRIES: u32 = 3;
/// Between waits that a front refused for reasons of its own.
const PAUSE: Duration = Duration::from_millis(200);

/// A handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Task {
    id: Arc<str>,
    bundle: Bundle,
    front: Arc<Front>,
}

impl Task {
    /// Touches nothing.
    pub fn new(id: &str, bundle: &Path, front: Arc<Front>) -> Self {
        Self { id: id.into(), bundle: Bundle::new(bundle), front }
    }

    /// Container id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its files.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Its front.
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Makes the process and lets the guest run, in one round trip. Gives its pid on the host.
    pub async fn create_and_start(&self, rootfs: Vec<RootMount>, standard: Standard) -> Result<u32, StartError> {
        let task = CreateTask { id: self.id.to_string(), bundle: self.bundle.dir().to_owned(), rootfs, standard };
        let started = self.call("start_container", |shim| {
            let task = task.clone();
            Box::pin(async move {
                match shim.create_and_start(&task).await {
                    Err(ShimError::AlreadyExists { .. }) => go_on(&shim, &task.id).await,
                    result => result,
                }
            })
        });
        started.await.map_err(|error| match error.operation() {
            "start" => StartError::Run(error),
            _ => StartError::Create(error),
        })
    }

    /// Sends a signal; to all processes of the container for SIGKILL. One that is gone is none the worse.
    pub async fn kill(&self, signal: Signal) -> Result<(), ShimError> {
        let (number, all) = match signal {
            Signal::Terminate(number) => (number, false),
            Signal::Kill => (9, true),
        };
        let result = self.call("stop_container", |shim| {
            let id = self.id.clone();
            Box::pin(async move { shim.kill(&id, "", number, all).await })
        });
        match result.await {
            Err(ShimError::NotFound { .. } | ShimError::FailedPrecondition { .. }) => Ok(()),
            result => result,
        }
    }

    /// Waits for the end, over the deaths of any number of fronts. Cancel by dropping.
    pub async fn wait(&self) -> Ended {
        loop {
            match self.bundle.exit_record() {
                Ok(Some(record)) => return ended(record),
                Ok(None) => {}
                Err(error) => warn!(id = %self.id, %error, "exit record cannot be read"),
            }
            let connection = self.front.connect_at_last().await;
            match connection.shim.wait(&self.id, "").await {
                Ok(exit) => {
                    return match self.bundle.exit_record() {
                        Ok(Some(record)) => ended(record),
                        Ok(None) | Err(_) => Ended {
                            exit_code: i32::try_from(exit.code).unwrap_or(255),
                            oom_killed: false,
                            message: None,
                            finished_at: timestamp(exit.exited_at_nanos),
                            seen: true,
                        },
                    };
                }
                Err(ShimError::NotFound { .. }) => {
                    return self.bundle.exit_record().ok().flatten().map_or_else(unseen, ended);
                }
                Err(ShimError::Unavailable { .. } | ShimError::Connect { .. }) => self.front.broken(&connection),
                Err(error) => {
                    warn!(id = %self.id, error = &error as &dyn std::error::Error, "waiting failed; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Ends when the guest listens on a socket, and never for one of which that is not heard: it has ended, or its front is
    /// gone. Cancel by dropping.
    pub async fn listens(&self) {
        let heard = match self.connect().await {
            Ok(connection) => connection.shim.listening(&self.id).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = heard {
            debug!(id = %self.id, error = &error as &dyn std::error::Error, "not heard whether it listens");
            std::future::pending::<()>().await;
        }
    }

    /// Removes what the front holds of an ended task. One that it does not know is removed already.
    pub async fn delete(&self) -> Result<(), ShimError> {
        let result = self.call("remove_container", |shim| {
            let id = self.id.clone();
            Box::pin(async move { shim.delete(&id, "").await })
        });
        match result.await {
            Ok(_) | Err(ShimError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The connection to its front, for calls of others (exec, attach, statistics).
    pub async fn shim(&self) -> Result<Shim, ShimError> {
        self.connect().await.map(|connection| connection.shim)
    }

    async fn call<T>(
        &self,
        operation_type: &'static str,
        request: impl Fn(Shim) -> BoxFuture<'static, Result<T, ShimError>>,
    ) -> Result<T, ShimError> {
        crate::metrics::agent().operations.runtime(operation_type, self.try_call(request)).await
    }

    async fn try_call<T>(
        &self,
        request: impl Fn(Shim) -> BoxFuture<'static, Result<T, ShimError>>,
    ) -> Result<T, ShimError> {
        let mut tries = 1;
        loop {
            let connection = self.connect().await?;
            match request(connection.shim.clone()).await {
                Err(error @ (ShimError::Unavailable { .. } | ShimError::Connect { .. })) => {
                    self.front.broken(&connection);
                    if tries == TRIES {
                        return Err(error);
                    }
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ShimError> {
        self.front.connect().await.map_err(|error| ShimError::Unavailable {
            operation: "reach the front of",
            id: self.id.to_string(),
            message: error.to_string(),
        })
    }
}

/// An earlier try came through before the connection broke, as far as it did.
async fn go_on(shim: &Shim, id: &str) -> Result<u32, ShimError> {
    let state = shim.state(id, "").await?;
    match state.status {
        Status::Created => shim.start(id, "").await,
        Status::Running | Status::Stopped | Status::Paused | Status::Unknown => Ok(state.pid),
    }
}

/// Which half of the start failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StartError {
    /// There is no process.
    #[error(transparent)]
    Create(ShimError),
    /// Its guest does not run.
    #[error(transparent)]
    Run(ShimError),
}

/// What is sent to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The image's or the pod's stop signal; 15 by default.
    Terminate(u32),
    /// At once, all processes.
    Kill,
}

fn ended(record: ExitRecord) -> Ended {
    Ended {
        exit_code: i32::try_from(record.exit_code).unwrap_or(255),
        oom_killed: record.oom_killed,
        message: record.message,
        finished_at: timestamp(record.exited_at_nanos),
        seen: record.seen,
    }
}

fn unseen() -> Ended {
    Ended { exit_code: 255, oom_killed: false, message: None, finished_at: Timestamp::now(), seen: false }
}

fn timestamp(nanos: i64) -> Timestamp {
    match nanos {
        0 => Timestamp::now(),
        nanos => Timestamp::from_nanosecond(nanos.into()).unwrap_or_else(|_| Timestamp::now()),
    }
}
