//! The end of an attempt: waited for, its last words read, written down, and its task deleted from the front.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Container;
use tracing::warn;

use super::last_words::{self, LOG_BYTES, MESSAGE_BYTES};
use crate::shims::{Ended, Record, Task};
use crate::volumes::Layout;

/// Whose end.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) layout: Arc<Layout>,
    pub(super) pod_uid: Arc<str>,
    pub(super) task: Task,
    pub(super) record: Record,
    /// `None`: not in the spec any more.
    pub(super) container: Option<Container>,
}

/// Returns when it has ended and nothing of it is left in its front. Again after the agent's death it gives the same.
pub(super) async fn follow(follow: Follow) -> Ended {
    let Follow { layout, pod_uid, task, mut record, container } = follow;
    let mut ended = task.wait().await;
    let trap = ended.message.take();
    ended.message = container
        .and_then(|container| {
            let file = layout.container(&pod_uid, &container.name, record.attempt).join("termination-log");
            let file = read_start(&file, MESSAGE_BYTES);
            let log = || read_end(&record.log, LOG_BYTES);
            let policy = container.termination_message_policy.as_deref();
            last_words::message(&file.unwrap_or_default(), policy, ended.exit_code, || log().unwrap_or_default())
        })
        .or(trap);
    record.ended = Some(ended.clone());
    if let Err(error) = record.write(task.bundle().dir()) {
        warn!(error = &error as &dyn std::error::Error, "the end of a container could not be written down");
    }
    if let Err(error) = task.delete().await {
        warn!(error = &error as &dyn std::error::Error, "an ended container could not be deleted from its front");
    }
    ended
}

fn read_start(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
