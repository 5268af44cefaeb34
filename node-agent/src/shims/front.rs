//! One front: a connection that is made anew when it breaks, and a successor when the process is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use samara_shim_client::{FrontConfig, FrontError, Shim, start_front};
use tokio::sync::Mutex;
use tracing::{info, warn};

/// Between tries to reach a front or to start its successor: doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// A front of ours.
pub struct Front {
    number: u32,
    dir: PathBuf,
    exe: PathBuf,
    env: BTreeMap<String, String>,
    /// `None` until first used, and after a call found the connection broken. No lock is held over an await.
    held: RwLock<Option<Connection>>,
    /// Held while connecting: one does it for all.
    connecting: Mutex<u64>,
}

/// A connection, and which one it is.
#[derive(Debug, Clone)]
pub struct Connection {
    pub shim: Shim,
    number: u64,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("number", &self.number).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Front {
    pub(super) fn new(number: u32, dir: PathBuf, exe: PathBuf, env: BTreeMap<String, String>) -> Self {
        Self { number, dir, exe, env, held: RwLock::new(None), connecting: Mutex::new(0) }
    }

    /// Its number among the node's fronts; also the name of its directory.
    pub fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// The connection, if there is one now.
    pub fn connected(&self) -> Option<Shim> {
        self.held().map(|connection| connection.shim)
    }

    /// The connection; made, with the front itself, if there is none. A front that starts in a directory where one was
    /// adopts what that one left.
    pub async fn connect(&self) -> Result<Connection, FrontError> {
        if let Some(connection) = self.held() {
            return Ok(connection);
        }
        let mut connecting = self.connecting.lock().await;
        if let Some(connection) = self.held() {
            return Ok(connection);
        }
        let config = FrontConfig { exe: self.exe.clone(), dir: self.dir.clone(), env: self.env.clone() };
        let shim = self.of_our_version(start_front(&config).await?).await;
        *connecting += 1;
        info!(front = self.number, "front is ready");
        let connection = Connection { shim, number: *connecting };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }

    /// One that an earlier agent started may run an earlier binary: it becomes ours, and its containers notice nothing. One
    /// that cannot goes on as it is: what it does, it does by protocols that have versions.
    async fn of_our_version(&self, shim: Shim) -> Shim {
        match shim.runs(&self.exe).await {
            Ok(true) => return shim,
            Ok(false) => info!(front = self.number, "front runs another binary; upgrading it"),
            Err(error) => {
                warn!(front = self.number, %error, "cannot tell which binary the front runs");
                return shim;
            }
        }
        match shim.upgrade(&self.exe).await {
            Ok(next) => next,
            Err(error) => {
                warn!(front = self.number, error = &error as &dyn std::error::Error, "front keeps its binary");
                shim
            }
        }
    }

    /// As [`Front::connect`], however often that fails before it succeeds.
    pub async fn connect_at_last(&self) -> Connection {
        let mut delay = FIRST_RETRY;
        loop {
            match self.connect().await {
                Ok(connection) => return connection,
                Err(error) => {
                    warn!(front = self.number, error = &error as &dyn std::error::Error, "front cannot be reached")
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LAST_RETRY);
        }
    }

    /// A call on this connection found it broken: the next gets a new one.
    pub fn broken(&self, connection: &Connection) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have renewed it already.
        if held.as_ref().is_some_and(|held| held.number == connection.number) {
            *held = None;
        }
    }

    fn held(&self) -> Option<Connection> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
