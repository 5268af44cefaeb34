//! Follows manifests: looks when the kernel says that something changed, and from time to time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::directory::{self, Manifests};
use super::feed::Feed;
use crate::objects::Given;
use crate::pods::watch::Change;
use crate::wakeup::Wakeup;

/// An editor writes a file in several steps: it is read when they are over.
const SETTLES: Duration = Duration::from_millis(50);

/// Tells of pods until `shutdown`; ConfigMaps and Secrets are put down in `given` before the pods that need them.
pub(in crate::pods) async fn follow(
    manifests: Manifests,
    mut feed: Feed,
    changes: mpsc::Sender<Change>,
    given: watch::Sender<Given>,
    shutdown: CancellationToken,
) {
    // Of one file the directory is watched: editors replace files.
    let dir = match manifests.path.is_file() {
        true => manifests.path.parent().unwrap_or(&manifests.path),
        false => &manifests.path,
    };
    let mut wakeup = Wakeup::on(dir);
    loop {
        let path = manifests.path.clone();
        let read = tokio::task::spawn_blocking(move || directory::read_all(&path)).await;
        match read {
            Ok(Ok(read)) => {
                let news = feed.take(read, Timestamp::now());
                news.complaints.iter().for_each(|complaint| warn!("manifest {complaint}"));
                given.send_if_modified(|known| std::mem::replace(known, news.given.clone()) != news.given);
                for change in news.changes {
                    if changes.send(change).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Err(error)) => warn!(path = %manifests.path.display(), %error, "manifests cannot be read"),
            Err(error) => warn!(%error, "reading manifests"),
        }
        if !wakeup.is_on() {
            wakeup = Wakeup::on(dir);
        }
        let wait = async {
            wakeup.wait(manifests.every).await;
            tokio::time::sleep(SETTLES).await;
        };
        if shutdown.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}
