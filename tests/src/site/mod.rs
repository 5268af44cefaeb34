//! What a run makes on this machine, and its undoing.
//!
//! Everything is written into the run's [`ledger`] *before* it is made, so it can be undone by whoever comes next:
//! by [`Site`]'s drop, by the signal handler, by `make down`, or by the next run that finds the owner dead.
//!
//! ```text
//! /run/samara-live/<name>/ledger.json   who owns the run, and what it made
//! /run/samara-live/<name>/...           sockets
//! /var/lib/samara-live/<name>/...       data, logs, certificates
//! /run/netns/samara-<name>[-<node>]     network namespaces
//! <cgroup hierarchy>/samara-live-<name> agents and pods
//! ```

pub mod cgroup;
pub mod ledger;
pub mod namespace;
pub mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};

use ledger::{Ledger, Record};
use namespace::Namespace;
use process::{Process, Program};

/// Where ledgers and sockets are. Short: a socket's path has 108 bytes.
const RUN: &str = "/run/samara-live";
/// Where data is.
const DATA: &str = "/var/lib/samara-live";

/// One run's place on this machine. Dropping the last clone undoes all of it, unless it was [left up](Site::leave_up).
#[derive(Debug, Clone)]
pub struct Site {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    ledger: Mutex<Ledger>,
    host: Namespace,
    namespace: Namespace,
}

impl Site {
    /// Cleans up after dead runs, makes the run's directories and first namespace, and **moves this process into that
    /// namespace**, so that pods, API server and registry are reached like by any program inside the cluster.
    /// Call it before any thread exists.
    ///
    /// # Errors
    /// If a living run has this name.
    pub fn enter(name: &str) -> Result<Self> {
        clean_dead_runs()?;
        let path = Path::new(RUN).join(name).join("ledger.json");
        if let Some(record) = Record::read(&path)? {
            bail!("a run named {name} is up (process {}): end it with `make down`", record.owner_text());
        }
        let host = Namespace::current().context("this process's network namespace")?;
        let mut ledger = Ledger::open(&path, Record::owned_by_this_process())?;
        for dir in [Path::new(RUN).join(name), Path::new(DATA).join(name)] {
            ledger.note(|record| record.directories.push(dir.clone()))?;
            fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        }
        ledger.note(|record| record.cgroups.push(format!("samara-live-{name}")))?;
        let namespace = make_namespace(&mut ledger, &format!("samara-{name}"))?;
        namespace.enter()?;
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), ledger: Mutex::new(ledger), host, namespace }) })
    }

    /// The run's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Short path for sockets: gone after a reboot.
    pub fn run_dir(&self) -> PathBuf {
        Path::new(RUN).join(&self.inner.name)
    }

    /// Data, logs and certificates.
    pub fn data_dir(&self) -> PathBuf {
        Path::new(DATA).join(&self.inner.name)
    }

    /// Name of the cgroup beneath which all that the run's agents make must be, in every hierarchy.
    pub fn cgroup(&self) -> String {
        format!("samara-live-{}", self.inner.name)
    }

    /// The namespace in which this process was started.
    pub fn host(&self) -> &Namespace {
        &self.inner.host
    }

    /// The namespace of the control plane, in which this process is now.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// Makes a further namespace, `samara-<run>-<name>`.
    pub fn make_namespace(&self, name: &str) -> Result<Namespace> {
        make_namespace(&mut self.ledger(), &format!("samara-{}-{name}", self.inner.name))
    }

    /// Mounts a tmpfs of at most `megabytes` on a directory, which it makes.
    pub fn mount_tmpfs(&self, dir: &Path, megabytes: u32) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let size = format!("size={megabytes}m,mode=0700");
        nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), nix::mount::MsFlags::empty(), Some(size.as_str()))
            .with_context(|| format!("mount a tmpfs on {}", dir.display()))
    }

    /// Starts a program which the run's end will end.
    pub fn start(&self, namespace: &Namespace, program: Program) -> Result<Process> {
        let process = Process::start(namespace, program)?;
        self.ledger().note(|record| record.processes.push(process.id()))?;
        Ok(process)
    }

    /// Leaves everything up when this process ends, until `make down`.
    pub fn leave_up(&self) -> Result<()> {
        self.ledger().note(|record| record.owner = None)
    }

    /// Undoes everything now. Used on signals, where no drop runs.
    pub fn end(&self) -> Result<()> {
        self.ledger().undo()
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.inner.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let ledger = self.ledger.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if ledger.record().owner.is_some()
            && let Err(error) = ledger.undo()
        {
            eprintln!("the run {} was not wholly undone: {error:#}; `make down` tries again", self.name);
        }
    }
}

/// Ends the run of this name, living or dead. `false` if there is none.
pub fn down(name: &str) -> Result<bool> {
    let path = Path::new(RUN).join(name).join("ledger.json");
    let Some(record) = Record::read(&path)? else { return Ok(false) };
    Ledger::open(&path, record)?.undo()?;
    Ok(true)
}

/// Names of all runs whose ledger is on this machine.
pub fn runs() -> Result<Vec<String>> {
    let entries = match fs::read_dir(RUN) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("list {RUN}")),
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Path::new(RUN).join(name).join("ledger.json").exists())
        .collect();
    names.sort();
    Ok(names)
}

/// Undoes the runs whose owner was killed. Runs that were left up on purpose stay.
pub fn clean_dead_runs() -> Result<()> {
    for name in runs()? {
        let path = Path::new(RUN).join(&name).join("ledger.json");
        let Some(record) = Record::read(&path)? else { continue };
        if record.owner.is_some_and(|owner| !owner.is_running()) {
            eprintln!("cleaning up after the run {name}, which was killed");
            Ledger::open(&path, record)?.undo()?;
        }
    }
    Ok(())
}

/// Returns when someone wants this process to end.
pub async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let all = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let waiting = all.into_iter().flatten().map(|mut one| Box::pin(async move { one.recv().await }));
    futures::future::select_all(waiting).await;
}

fn make_namespace(ledger: &mut Ledger, name: &str) -> Result<Namespace> {
    ledger.note(|record| record.namespaces.push(name.to_owned()))?;
    Namespace::make(name)
}
