//! All containers of a front, by id.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::config;
use super::error::TaskError;
use super::events::Event;
use super::outline;
use super::phase::Phase;
use super::process::Process;
use super::task::{Task, Tools};
use samara_shim_client::bundle::{Bundle, ExitRecord, TaskRecord};
use samara_shim_client::client::CreateTask;

/// The table. `links` holds a symbolic link to each bundle under its id, by which a successor finds them.
#[derive(Debug)]
pub(crate) struct Tasks {
    pub(crate) tools: Tools,
    links: PathBuf,
    tasks: Mutex<HashMap<String, Arc<Task>>>,
}

impl Tasks {
    pub(crate) fn new(tools: Tools, links: &Path, adopted: Vec<Arc<Task>>) -> Self {
        let by_id = adopted.into_iter().map(|task| (task.init.record.id.clone(), task));
        Self { tools, links: links.into(), tasks: Mutex::new(by_id.collect()) }
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.table().get(id).cloned().ok_or_else(|| TaskError::NoTask(id.into()))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Task>> {
        self.table().values().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// Enters a task and makes its process. A start that comes meanwhile waits for it.
    pub(crate) async fn create(&self, request: CreateTask) -> Result<i32, TaskError> {
        check_id(&request.id)?;
        if self.table().contains_key(&request.id) {
            return Err(TaskError::TaskExists(request.id));
        }
        let bundle = Bundle::new(&request.bundle);
        let spec = config::read(&bundle)?;
        let (record, cgroup) = self.record(&request, &spec)?;
        let events = self.tools.events.clone();
        let task = Arc::new(Task::new(Process::new(bundle, record, cgroup, events, Phase::Creating)));
        self.table().insert(request.id.clone(), Arc::clone(&task));
        let linked = self.link(&request.id, task.bundle());
        let created = match linked {
            Ok(()) => task.create(&self.tools, spec, &request.rootfs).await,
            Err(error) => Err(error),
        };
        if created.is_err() {
            self.forget(&request.id);
        }
        created
    }

    /// Removes a task, or an exec of one.
    pub(crate) async fn delete(&self, id: &str, exec_id: &str) -> Result<ExitRecord, TaskError> {
        let task = self.get(id)?;
        let one_at_a_time = task.deleting.lock().await;
        // The other delete may have done it.
        self.get(id)?;
        let record = if exec_id.is_empty() {
            let record = task.remove().await?;
            self.forget(id);
            record
        } else {
            task.delete_exec(exec_id).await?
        };
        drop(one_at_a_time);
        self.tools.events.publish(Event::Delete {
            id: id.into(),
            exec_id: exec_id.into(),
            pid: record.pid,
            exit_code: record.exit_code,
            exited_at_nanos: record.exited_at_nanos,
        });
        Ok(record)
    }

    fn record(
        &self,
        request: &CreateTask,
        spec: &oci_spec::runtime::Spec,
    ) -> Result<(TaskRecord, Option<samara_shim_client::cgroup::Cgroup>), TaskError> {
        let linux = spec.linux().as_ref();
        let path =
            linux.and_then(|linux| linux.cgroups_path().as_ref()).map(|path| path.to_string_lossy().into_owned());
        let path = path.filter(|path| !path.is_empty());
        let cgroup = path.as_deref().map(|path| self.tools.cgroups.group(path)).transpose()?;
        let record = TaskRecord {
            id: request.id.clone(),
            exec_id: String::new(),
            cgroups_path: path,
            stdin: request.standard.stdin.clone(),
            stdout: request.standard.stdout.clone(),
            stderr: request.standard.stderr.clone(),
            terminal: request.standard.terminal,
            grace_period_seconds: outline::grace_period_seconds(spec)?,
        };
        Ok((record, cgroup))
    }

    fn link(&self, id: &str, bundle: &Bundle) -> Result<(), TaskError> {
        let link = self.links.join(id);
        let made = match symlink(bundle.dir(), &link) {
            // Left by a front that died before it had a record.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link).and_then(|()| symlink(bundle.dir(), &link))
            }
            made => made,
        };
        made.map_err(|source| TaskError::Io { operation: "link", path: link, source })
    }

    fn forget(&self, id: &str) {
        self.table().remove(id);
        let link = self.links.join(id);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(link = %link.display(), %error, "remove the link to a bundle");
            }
            _ => {}
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id names files: containerd's rule (`identifiers.Validate`), which also keeps `..` out.
pub(crate) fn check_id(id: &str) -> Result<(), TaskError> {
    const LONGEST: usize = 128;
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = id.as_bytes();
    let good = bytes.len() <= LONGEST && bytes.iter().copied().all(inner) && ends(bytes.first()) && ends(bytes.last());
    if good { Ok(()) } else { Err(TaskError::Id(id.into())) }
}

#[cfg(test)]
mod tests {
    use super::check_id;

    #[test]
    fn an_id_is_never_a_way_out_of_a_directory() {
        for good in ["a", "web_1", "3f-a.b", &"f".repeat(128)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "-a", "a-", "a b", "ä", "a\0", &"f".repeat(129)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}
