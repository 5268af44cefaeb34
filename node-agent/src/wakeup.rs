//! Waits until something happened to the files of a directory.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

/// What counts as one.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE);

/// A watch on a directory; made before the first look, so that no change is missed.
#[derive(Debug)]
pub(crate) struct Wakeup {
    /// An inotify descriptor: to the runtime a pipe like others, something to wait for and read from.
    events: Option<pipe::Receiver>,
}

impl Wakeup {
    /// Never fails: without inotify, or without the directory, it wakes by time alone.
    pub(crate) fn on(directory: &Path) -> Self {
        let watch = || {
            let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            inotify::add_watch(&fd, directory, CHANGES)?;
            pipe::Receiver::from_owned_fd_unchecked(fd)
        };
        let events: io::Result<_> = watch();
        Self {
            events: events.inspect_err(|error| tracing::debug!(%error, "no inotify: looking at files by time")).ok(),
        }
    }

    /// Whether the kernel tells of changes.
    pub(crate) fn is_on(&self) -> bool {
        self.events.is_some()
    }

    /// Returns when there may be something new, after `at_latest` in any case: not everything is an event of the
    /// directory, and a machine may be out of inotify instances.
    pub(crate) async fn wait(&mut self, at_latest: Duration) {
        let Some(events) = &self.events else {
            return tokio::time::sleep(at_latest).await;
        };
        if let Ok(Ok(())) = tokio::time::timeout(at_latest, events.readable()).await {
            // What happened is looked up in the directory itself; here it is only taken off the queue.
            let mut buffer = [0; 4096];
            while events.try_read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
    }
}
