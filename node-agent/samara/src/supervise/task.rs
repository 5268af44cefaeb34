//! A container, or an exec in one, in its front. Calls find a front that was started anew as well as the old one.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use samara_shim_client::bundle::Bundle;
use samara_shim_client::client::{CreateTask, Shim, Standard};
use samara_shim_client::front::{FrontConfig, socket, start_front};
use samara_shim_client::{FrontError, ShimError};

use crate::container::{Container, Ended, ended};
use crate::place::Place;

/// A front that was told to end and has nothing left ends at once.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);
const LOOKS_EVERY: Duration = Duration::from_millis(1);

/// A handle.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Empty for the container's first process.
    pub(crate) exec_id: String,
    bundle: Bundle,
    front: FrontConfig,
}

impl Task {
    /// Touches nothing.
    pub(crate) fn of(place: &Place, container: &Container) -> Result<Self> {
        let id = container.record.id.clone();
        let mut front = place.front(&id)?;
        if let Some(dir) = container.front() {
            front.dir = dir.to_owned();
        }
        Ok(Self { id, exec_id: String::new(), bundle: container.bundle(), front })
    }

    /// A further process in the same container.
    pub(crate) fn exec(&self, exec_id: &str) -> Self {
        Self { exec_id: exec_id.into(), bundle: self.bundle.exec(exec_id), ..self.clone() }
    }

    /// Its front, which is started if it is not there, and then takes over what its predecessor left. Not to be dropped
    /// half-way if [`Task::clear`] is to find it.
    pub(crate) async fn shim(&self) -> Result<Shim, FrontError> {
        start_front(&self.front).await
    }

    /// Its front, if that is there.
    pub(crate) async fn living(&self) -> Option<Shim> {
        Shim::connect(&socket(&self.front.dir)).await.ok()
    }

    /// Makes the process, which waits for its start. Cancel by dropping.
    pub(crate) async fn create(&self, shim: &Shim, container: &Container, standard: Standard) -> Result<()> {
        let rootfs = container.record.rootfs(container.dir());
        let task = CreateTask { id: self.id.clone(), bundle: container.dir().to_owned(), rootfs, standard };
        shim.create(&task).await.map(drop).map_err(plain)
    }

    /// Sends a signal. One that has ended is none the worse.
    pub(crate) async fn kill(&self, signal: u32) -> Result<()> {
        match self.shim().await?.kill(&self.id, &self.exec_id, signal, signal == 9 && self.exec_id.is_empty()).await {
            Ok(()) | Err(ShimError::NotFound { .. } | ShimError::FailedPrecondition { .. }) => Ok(()),
            Err(error) => Err(plain(error)),
        }
    }

    /// Waits for the end, over the deaths of any number of fronts. Cancel by dropping.
    pub(crate) async fn wait(&self) -> Result<Ended> {
        loop {
            if let Some(exit) = self.bundle.exit_record().context("read exit.json")? {
                return Ok(ended(&exit));
            }
            match self.shim().await?.wait(&self.id, &self.exec_id).await {
                Ok(exit) => {
                    let record = self.bundle.exit_record().context("read exit.json")?;
                    return Ok(record.as_ref().map_or_else(|| of_code(exit.code), ended));
                }
                Err(ShimError::NotFound { .. }) => {
                    let record = self.bundle.exit_record().context("read exit.json")?;
                    return Ok(record.as_ref().map_or_else(|| of_code(255), ended));
                }
                Err(ShimError::Unavailable { .. } | ShimError::Connect { .. }) => {}
                Err(error) => return Err(plain(error)),
            }
        }
    }

    /// Removes what the front holds of an ended process.
    pub(crate) async fn delete(&self) -> Result<()> {
        match self.shim().await?.delete(&self.id, &self.exec_id).await {
            Ok(_) | Err(ShimError::NotFound { .. }) => Ok(()),
            Err(error) => Err(plain(error)),
        }
    }

    /// Whatever is left of the container goes: its processes, its front.
    pub(crate) async fn clear(&self) -> Result<()> {
        let left = self.front.dir.exists() || socket(&self.front.dir).exists();
        if !left {
            return Ok(());
        }
        self.kill(9).await?;
        if self.bundle.start_record().context("read start.json")?.is_some() {
            self.wait().await?;
        }
        self.delete().await?;
        self.shim().await?.shutdown().await.map_err(plain)?;
        self.front_left().await
    }

    /// A front that is dying still takes connections: only when its directory is gone may another one come.
    async fn front_left(&self) -> Result<()> {
        let left = async {
            while self.front.dir.exists() {
                tokio::time::sleep(LOOKS_EVERY).await;
            }
        };
        let in_time = tokio::time::timeout(LEAVES_WITHIN, left).await;
        in_time.with_context(|| format!("the front in {} does not end", self.front.dir.display()))
    }
}

/// The shim's own words: what was being done is said by who does it.
pub(crate) fn plain(error: ShimError) -> anyhow::Error {
    anyhow::Error::msg(error.message().to_owned())
}

/// Nobody wrote down how it ended.
fn of_code(code: u32) -> Ended {
    Ended {
        exit_code: u8::try_from(code).unwrap_or(255),
        oom_killed: false,
        message: None,
        finished_at: Timestamp::now(),
    }
}
