//! Waits until something happened to a log's directory.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

/// Looks again after this long even if nothing was told: the end of a container is no event of the directory, and a
/// machine may be out of inotify instances.
const AT_LATEST: Duration = Duration::from_millis(200);

/// A watch on a directory; made before the first look, so that no change is missed.
#[derive(Debug)]
pub(super) struct Wakeup {
    /// An inotify descriptor: to the runtime a pipe like others, something to wait for and read from.
    events: Option<pipe::Receiver>,
}

impl Wakeup {
    /// Never fails: without inotify it wakes by time alone.
    pub(super) fn on(directory: &Path) -> Self {
        let watch = || {
            let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            inotify::add_watch(&fd, directory, WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO)?;
            pipe::Receiver::from_owned_fd_unchecked(fd)
        };
        let events: io::Result<_> = watch();
        Self { events: events.inspect_err(|error| tracing::debug!(%error, "no inotify: looking at logs by time")).ok() }
    }

    /// Returns when there may be something new.
    pub(super) async fn wait(&mut self) {
        let Some(events) = &self.events else {
            return tokio::time::sleep(AT_LATEST).await;
        };
        if let Ok(Ok(())) = tokio::time::timeout(AT_LATEST, events.readable()).await {
            // What happened is looked up in the directory itself; here it is only taken off the queue.
            let mut buffer = [0; 4096];
            while events.try_read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
    }
}
