//! Taking over what a dead front left: its bundles say what was asked for and which process it became.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::phase::Phase;
use super::process::Process;
use super::task::Task;
use samara_shim_client::bundle::{Bundle, TaskRecord};
use samara_shim_client::cgroup::Cgroups;
use samara_shim_client::process;

use crate::container::control::{self, State};

/// How long a container's control thread may take to say what its guest is doing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// All tasks that `links` leads to. What cannot be read is logged and left alone.
pub(crate) async fn adopt(links: &Path, cgroups: &Cgroups, events: &Events) -> io::Result<Vec<Arc<Task>>> {
    let links = fs::read_dir(links)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    // All at once: each waits for a thread of its container.
    let adopted = links.iter().map(|link| adopt_one(link, cgroups, events));
    let adopted = futures::future::join_all(adopted).await;
    let mut tasks = Vec::new();
    for (link, adopted) in links.iter().zip(adopted) {
        match adopted {
            Ok(Some(task)) => tasks.push(Arc::new(task)),
            Ok(None) => {
                tracing::info!(link = %link.display(), "nothing was made of this task");
                fs::remove_file(link)?;
            }
            Err(error) => tracing::warn!(link = %link.display(), error = super::error::chain(&error), "cannot adopt"),
        }
    }
    Ok(tasks)
}

async fn adopt_one(link: &Path, cgroups: &Cgroups, events: &Events) -> Result<Option<Task>, super::error::TaskError> {
    let bundle = match fs::read_link(link) {
        Ok(dir) => Bundle::new(dir),
        Err(source) => return Err(io_error(link)(source)),
    };
    let Some(record) = bundle.task_record().map_err(io_error(link))? else {
        return Ok(None);
    };
    let cgroup = record.cgroups_path.as_deref().map(|path| cgroups.group(path)).transpose()?;
    let Some(init) = adopt_process(bundle.clone(), record, cgroup.clone(), events).await.map_err(io_error(link))?
    else {
        // The front died between the records and the fork. The cgroup is the task's: it was looked at before the records
        // were written. Nothing is in it, or a process that the zygote had no time to tell of.
        if let Some(cgroup) = cgroup {
            cgroup.kill()?;
            cgroup.remove().await?;
        }
        bundle.remove_records().map_err(io_error(link))?;
        return Ok(None);
    };
    let task = Task::adopted(init);
    for exec_id in bundle.execs().map_err(io_error(link))? {
        let bundle = bundle.exec(&exec_id);
        let Some(record) = bundle.task_record().map_err(io_error(link))? else {
            continue;
        };
        let spec = bundle.exec_process().map_err(io_error(link))?.unwrap_or_default();
        let found = adopt_process(bundle.clone(), record.clone(), cgroup.clone(), events).await;
        let exec = found.map_err(io_error(link))?;
        // One that was not started waits on.
        let exec = exec.unwrap_or_else(|| Process::new(bundle, record, cgroup.clone(), events.clone(), Phase::Added));
        task.adopt_exec(Arc::new(exec), spec);
    }
    Ok(Some(task))
}

/// `None` if it was never forked.
async fn adopt_process(
    bundle: Bundle,
    record: TaskRecord,
    cgroup: Option<samara_shim_client::cgroup::Cgroup>,
    events: &Events,
) -> io::Result<Option<Process>> {
    let Some(start) = bundle.start_record()? else {
        return Ok(None);
    };
    let found = |phase, cgroup| Process::new(bundle.clone(), record, cgroup, events.clone(), phase);
    if let Some(exit) = bundle.exit_record()? {
        return Ok(Some(found(Phase::Stopped(exit), cgroup)));
    }
    let pid = start.pid;
    let Some(pidfd) = process::open(pid, start.start_time)? else {
        // Ended, and whoever saw it has still to say so.
        return Ok(Some(found(Phase::Running { pid }, cgroup)));
    };
    if cgroup.as_ref().is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false)) {
        let process = found(Phase::Paused { pid }, cgroup);
        process.found(pidfd);
        return Ok(Some(process));
    }
    let connected = match tokio::time::timeout(ANSWERS_WITHIN, control::connect(bundle.dir())).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    };
    let ready = matches!(&connected, Ok(connected) if connected.hello.state == State::Ready);
    let process = found(if ready { Phase::Created { pid } } else { Phase::Running { pid } }, cgroup);
    process.found(pidfd);
    match connected {
        Ok(connected) => process.connected(connected),
        // It is ending, or it speaks another version: a later call will say.
        Err(error) => tracing::warn!(process = process.name(), error = super::error::chain(&error), "control thread"),
    }
    Ok(Some(process))
}

fn io_error(link: &Path) -> impl FnOnce(io::Error) -> super::error::TaskError + use<> {
    let path = link.to_path_buf();
    move |source| super::error::TaskError::Io { operation: "adopt", path, source }
}
