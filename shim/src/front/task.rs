//! One container: its first process, its execs, its cgroup.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci_spec::runtime::{LinuxResources, Process as ProcessSpec, Spec};

use super::code::Codes;
use super::error::TaskError;
use super::events::{Event, Events};
use super::forks::{Forks, Order};
use super::hooks::Hooks;
use super::open::{self, Kept, Mounted, Named, Neighbour, Prepared, Rooted};
use super::outline::{self, Host, Outline, ProcessOutline};
use super::phase::{Phase, Step};
use super::process::Process;
use super::{config, hostfile, status, terminal};
use crate::plan::Guest;
use samara_shim_client::annotations;
use samara_shim_client::bundle::{Bundle, ExitRecord, TaskRecord};
use samara_shim_client::cgroup::{Cgroup, Cgroups, Stats};
use samara_shim_client::client::{RootMount, Standard};

/// What every task of a front uses.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) forks: Forks,
    pub(crate) codes: Codes,
    pub(crate) cgroups: Arc<Cgroups>,
    pub(crate) events: Events,
    pub(crate) host: Host,
    /// containerd's, for logging programs.
    pub(crate) namespace: Arc<str>,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) init: Arc<Process>,
    /// The first process's cgroup is this task's: nobody was in it when it was taken. Until then its name is a wish.
    has_cgroup: AtomicBool,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    hooks: Hooks,
    /// Deletes come one at a time.
    pub(crate) deleting: tokio::sync::Mutex<()>,
}

/// A further process, and what its start needs.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) process: Arc<Process>,
    spec: ProcessSpec,
}

/// A process that is set up fails to end only if the kernel is stuck.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

impl Task {
    /// One that is to be created.
    pub(crate) fn new(init: Process) -> Self {
        Self {
            init: Arc::new(init),
            has_cgroup: AtomicBool::new(false),
            execs: Mutex::default(),
            hooks: Hooks::default(),
            deleting: Default::default(),
        }
    }

    /// One that a predecessor created.
    pub(crate) fn adopted(init: Process) -> Self {
        Self { has_cgroup: AtomicBool::new(true), ..Self::new(init) }
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        &self.init.bundle
    }

    /// Makes the first process. On failure nothing stays behind.
    pub(crate) async fn create(&self, tools: &Tools, spec: Spec, rootfs: &[RootMount]) -> Result<i32, TaskError> {
        let mut made = self.try_create(tools, &spec, rootfs).await;
        if matches!(&made, Err(TaskError::Fork(_))) && self.init.cgroup.is_some() {
            // The zygote died. Whatever it may have forked ends with the cgroup, or cannot enter it any more.
            self.clear(&self.init).await;
            made = self.try_create(tools, &spec, rootfs).await;
        }
        match made {
            Ok(pid) => {
                let record = &self.init.record;
                tools.events.publish(Event::Create {
                    id: record.id.clone(),
                    bundle: self.bundle().dir().display().to_string(),
                    standard: standard(record),
                    pid,
                });
                Ok(pid)
            }
            Err(error) => {
                self.give_up(&self.init).await;
                if matches!(error, TaskError::Hook(_)) {
                    // What the first of them began has to be undone.
                    self.hooks.deleted(self.bundle(), &self.init.record.id).await;
                }
                Err(error)
            }
        }
    }

    /// Lets the first process run.
    pub(crate) async fn start(&self) -> Result<i32, TaskError> {
        let pid = self.init.start().await?;
        self.hooks.started(self.bundle(), &self.init.record.id, pid).await;
        Ok(pid)
    }

    async fn try_create(&self, tools: &Tools, spec: &Spec, rootfs: &[RootMount]) -> Result<i32, TaskError> {
        let init = &self.init;
        let bundle = self.bundle();
        let mut outline = Outline::of(spec, bundle.dir(), rootfs, &standard(&init.record), &tools.host)?;
        complete_network(spec, &mut outline.process.guest);
        if !outline.ignored.is_empty() {
            tracing::debug!(task = init.name(), fields = ?outline.ignored, "config.json: ignored");
        }
        self.hooks.know(std::mem::take(&mut outline.hooks));
        let mounted = Mounted::open(&outline)?;
        let code = tools.codes.ensure(&init.record.id, &outline.process.wasm, Some(Rooted::Detached(&mounted))).await?;
        if let (Some(cgroup), Some(outline)) = (&init.cgroup, &outline.cgroup) {
            if let Some(path) = cgroup.occupied()? {
                return Err(TaskError::CgroupOccupied { path });
            }
            self.has_cgroup.store(true, Ordering::Relaxed);
            make_cgroups(cgroup, outline)?;
        }
        init.bundle.remove_records().map_err(io_error("clear", bundle))?;
        init.bundle.write_task(&init.record).map_err(io_error("write the task record of", bundle))?;
        let named =
            Named { id: init.name(), title: title(spec, &init.record.id), namespace: tools.namespace.to_string() };
        let terminal = outline.process.stdio.clone();
        let prepared = open::container(outline, mounted, init.cgroup.as_ref(), bundle, code, named)?;
        let pid = fork(tools, init, prepared, &terminal).await?;
        self.hooks.created(spec, bundle, &init.record.id, pid).await?;
        init.step(Step::Created { pid })?;
        Ok(pid)
    }

    /// Adds an exec, which waits for its start.
    pub(crate) fn add_exec(
        &self,
        tools: &Tools,
        exec_id: &str,
        spec: ProcessSpec,
        standard: Standard,
    ) -> Result<(), TaskError> {
        self.running("exec in")?;
        let record = TaskRecord {
            exec_id: exec_id.into(),
            stdin: standard.stdin,
            stdout: standard.stdout,
            stderr: standard.stderr,
            terminal: standard.terminal,
            ..self.init.record.clone()
        };
        let bundle = self.bundle().exec(exec_id);
        let mut execs = self.execs();
        if execs.contains_key(exec_id) {
            return Err(TaskError::ExecExists(exec_id.into()));
        }
        fs::create_dir_all(bundle.dir()).map_err(io_error("make", &bundle))?;
        bundle.write_task(&record).map_err(io_error("write the task record of", &bundle))?;
        bundle.write_exec_process(&spec).map_err(io_error("write the process of", &bundle))?;
        let process = Process::new(bundle, record, self.init.cgroup.clone(), tools.events.clone(), Phase::Added);
        execs.insert(exec_id.into(), Arc::new(Exec { process: Arc::new(process), spec }));
        let id = self.init.record.id.clone();
        tools.events.publish(Event::ExecAdded { id, exec_id: exec_id.into() });
        Ok(())
    }

    /// An exec that a predecessor started.
    pub(crate) fn adopt_exec(&self, process: Arc<Process>, spec: ProcessSpec) {
        let exec = Exec { spec, process };
        self.execs().insert(exec.process.record.exec_id.clone(), Arc::new(exec));
    }

    /// Makes an exec's process and lets it run.
    pub(crate) async fn start_exec(&self, tools: &Tools, exec_id: &str) -> Result<i32, TaskError> {
        let exec = self.exec(exec_id)?;
        exec.process.step(Step::Create)?;
        match self.try_start_exec(tools, &exec).await {
            Ok(()) => exec.process.start().await,
            Err(error) => {
                self.give_up(&exec.process).await;
                Err(error)
            }
        }
    }

    async fn try_start_exec(&self, tools: &Tools, exec: &Exec) -> Result<(), TaskError> {
        let pid = self.running("exec in")?;
        let process = &exec.process;
        let spec = config::read(self.bundle())?;
        let mut outline = ProcessOutline::exec(&spec, &exec.spec, &standard(&process.record), &tools.host)?;
        complete_network(&spec, &mut outline.guest);
        if let Some(cgroup) = &process.cgroup {
            // It may have been changed since.
            outline.guest.memory_limit = cgroup.memory_limit(outline.guest.memory_limit)?;
        }
        let neighbour = Neighbour::new(pid);
        let root = neighbour.root()?;
        let code = {
            use std::os::fd::AsFd as _;
            tools.codes.ensure(&process.record.id, &outline.wasm, Some(Rooted::Living(root.as_fd()))).await?
        };
        process.bundle.write_task(&process.record).map_err(io_error("write the task record of", &process.bundle))?;
        let named = Named {
            id: process.name(),
            title: title(&spec, &process.record.id),
            namespace: tools.namespace.to_string(),
        };
        let stdio = outline.stdio.clone();
        let prepared = open::exec(outline, &neighbour, process.cgroup.as_ref(), &process.bundle, code, named)?;
        // All was opened by pid: if the container still lives, it was that container's.
        self.running("exec in")?;
        let pid = fork(tools, process, prepared, &stdio).await?;
        process.step(Step::Created { pid })?;
        Ok(())
    }

    /// The first process, or an exec.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>, TaskError> {
        if exec_id.is_empty() {
            return Ok(Arc::clone(&self.init));
        }
        Ok(Arc::clone(&self.exec(exec_id)?.process))
    }

    /// Removes an exec that ended or never began.
    pub(crate) async fn delete_exec(&self, exec_id: &str) -> Result<ExitRecord, TaskError> {
        let process = self.process(exec_id)?;
        let record = match process.phase() {
            Phase::Stopped(record) => record,
            Phase::Added | Phase::Failed => never(),
            phase @ (Phase::Creating | Phase::Created { .. } | Phase::Running { .. } | Phase::Paused { .. }) => {
                return Err(super::phase::IllegalStep { step: "delete", phase: phase.name() }.into());
            }
        };
        let dir = process.bundle.dir();
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(TaskError::Io { operation: "remove", path: dir.into(), source: error });
            }
            _ => {}
        }
        self.execs().remove(exec_id);
        Ok(record)
    }

    /// Ends what is left and removes all that was made. Twice is as once.
    pub(crate) async fn remove(&self) -> Result<ExitRecord, TaskError> {
        let record = match self.init.phase() {
            Phase::Stopped(record) => record,
            Phase::Failed => never(),
            Phase::Created { .. } => {
                self.init.kill()?;
                self.init.ended().await?
            }
            phase @ (Phase::Added | Phase::Creating | Phase::Running { .. } | Phase::Paused { .. }) => {
                return Err(super::phase::IllegalStep { step: "delete", phase: phase.name() }.into());
            }
        };
        let execs: Vec<_> = self.execs().values().cloned().collect();
        for exec in &execs {
            end(&exec.process).await;
        }
        self.remove_cgroup().await?;
        self.bundle().remove_records().map_err(io_error("remove the records of", self.bundle()))?;
        self.hooks.deleted(self.bundle(), &self.init.record.id).await;
        Ok(record)
    }

    /// Sends a signal to one process, or to all.
    pub(crate) async fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<(), TaskError> {
        let process = self.process(exec_id)?;
        if !all {
            return process.signal(signal).await;
        }
        // The first of them last: it takes its pid namespace with it.
        let execs = self.processes().into_iter().skip(1).filter(|exec| exec.phase().pid().is_some());
        for exec in execs {
            match exec.signal(signal).await {
                Ok(()) | Err(TaskError::Finished) => {}
                Err(error) => return Err(error),
            }
        }
        let done = self.init.signal(signal).await;
        if let (Some(cgroup), true) = (self.cgroup(), signal == libc::SIGKILL.cast_unsigned()) {
            cgroup.kill()?;
        }
        done
    }

    pub(crate) fn pids(&self) -> Result<Vec<i32>, TaskError> {
        let living = match self.cgroup() {
            Some(cgroup) => cgroup.pids()?,
            None => self.init.phase().pid().into_iter().collect(),
        };
        // The first is told until it is deleted: containerd, when it is started again, takes a task without any process for
        // one that was never made, and the exit code would be lost.
        let phase = self.init.phase();
        let first = phase.pid().or(phase.exit().map(|record| record.pid)).filter(|_| living.is_empty());
        Ok(living.into_iter().chain(first).collect())
    }

    pub(crate) fn stats(&self) -> Result<Stats, TaskError> {
        Ok(self.cgroup().ok_or(TaskError::NoCgroup)?.stats()?)
    }

    /// Changes the kernel's limits, and the guest's own memory counter with them.
    pub(crate) async fn update(&self, resources: &LinuxResources) -> Result<(), TaskError> {
        self.cgroup().ok_or(TaskError::NoCgroup)?.limit(resources)?;
        if let Some(limit) = outline::memory_update(resources) {
            for process in self.processes() {
                process.limit_memory(limit).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), TaskError> {
        let step = if frozen { Step::Pause } else { Step::Resume };
        let before = self.init.phase();
        self.init.phase().after(step.clone())?;
        self.cgroup().ok_or(TaskError::NoCgroup)?.freeze(frozen)?;
        self.init.step(step)?;
        tracing::debug!(task = self.init.record.id, before = before.name(), frozen, "freezer");
        if !frozen {
            self.processes().iter().for_each(Process::went_on);
        }
        Ok(())
    }

    /// All processes that write logs.
    pub(crate) fn processes(&self) -> Vec<Arc<Process>> {
        let execs: Vec<_> = self.execs().values().map(|exec| Arc::clone(&exec.process)).collect();
        [Arc::clone(&self.init)].into_iter().chain(execs).collect()
    }

    /// Its own, once it has it.
    fn cgroup(&self) -> Option<&Cgroup> {
        self.init.cgroup.as_ref().filter(|_| self.has_cgroup.load(Ordering::Relaxed))
    }

    /// Ends all in its cgroup and removes it.
    async fn remove_cgroup(&self) -> Result<(), TaskError> {
        if let Some(cgroup) = self.cgroup() {
            cgroup.kill()?;
            cgroup.remove().await?;
            self.has_cgroup.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn running(&self, step: &'static str) -> Result<i32, TaskError> {
        let phase = self.init.phase();
        match phase {
            Phase::Running { pid } => Ok(pid),
            Phase::Added
            | Phase::Creating
            | Phase::Created { .. }
            | Phase::Paused { .. }
            | Phase::Stopped(_)
            | Phase::Failed => Err(TaskError::ContainerIs { step, phase: phase.name() }),
        }
    }

    fn exec(&self, exec_id: &str) -> Result<Arc<Exec>, TaskError> {
        self.execs().get(exec_id).cloned().ok_or_else(|| TaskError::NoExec(exec_id.into()))
    }

    /// After a failed creation: no process, no cgroup, no records.
    async fn give_up(&self, process: &Arc<Process>) {
        self.clear(process).await;
        // Illegal if it was forked and has ended: then it is stopped already.
        let _ = process.step(Step::Fail);
    }

    async fn clear(&self, process: &Arc<Process>) {
        end(process).await;
        if !process.record.exec_id.is_empty() {
            return;
        }
        let cleared = async {
            self.remove_cgroup().await?;
            process.bundle.remove_records().map_err(io_error("remove the records of", &process.bundle))
        };
        if let Err(error) = cleared.await {
            tracing::warn!(
                task = process.name(),
                error = super::error::chain(&error),
                "clear up after a failed creation"
            );
        }
    }

    fn execs(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills a process if it lives and waits until its end is recorded.
async fn end(process: &Arc<Process>) {
    if process.pidfd().is_none() {
        return;
    }
    if let Err(error) = process.kill() {
        tracing::warn!(process = process.name(), error = super::error::chain(&error), "kill");
    }
    if tokio::time::timeout(ENDS_WITHIN, process.ended()).await.is_err() {
        tracing::error!(process = process.name(), "does not end");
    }
}

/// From prepared files to a process that waits for its start.
async fn fork(
    tools: &Tools,
    process: &Arc<Process>,
    prepared: Prepared,
    stdio: &outline::StdioOutline,
) -> Result<i32, TaskError> {
    let bundle = &process.bundle;
    let (status, order) = order(process, &prepared).map_err(io_error("prepare", bundle))?;
    let order = Order { pid_namespace: prepared.pid_namespace, files: prepared.files, ..order };
    let pid = tools.forks.fork(process, order).await.map_err(TaskError::Fork)?;
    let said = status::read(status).await.map_err(io_error("read the status of", bundle))?;
    if !said.is_empty() {
        return Err(TaskError::SetUp(said));
    }
    let Kept { terminal, output, fifos, loggers } = prepared.kept;
    for logger in &loggers {
        logger.until_ready().await?;
    }
    process.keep(fifos, loggers);
    if let Some(master) = terminal {
        terminal::attach(process, master, stdio, output)?;
    }
    Ok(pid)
}

fn order(process: &Process, prepared: &Prepared) -> io::Result<(OwnedFd, Order)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let counter = process.cgroup.as_ref().map(Cgroup::open_oom_counter).transpose().map_err(io::Error::other)?;
    let order = Order {
        bundle: fs::File::open(process.bundle.dir())?.into(),
        report: prepared.report()?,
        status: write,
        plan: prepared.plan.seal()?,
        pid_namespace: crate::zygote::protocol::PidNamespace::Host,
        oom_counter: counter.flatten(),
        files: Vec::new(),
    };
    Ok((read, order))
}

/// The pod's cgroup first: the container's limits must fit into it.
fn make_cgroups(cgroup: &Cgroup, outline: &outline::CgroupOutline) -> Result<(), TaskError> {
    if let (Some(parent), Some(resources)) = (cgroup.parent(), &outline.parent_resources)
        && !parent.exists()
    {
        parent.make(resources)?;
    }
    cgroup.make(&outline.resources)?;
    Ok(())
}

/// Of `resolv.conf` and `hosts`: far above what the kubelet writes.
const LARGEST_NETWORK_FILE: u64 = 1 << 20;

/// Name servers, search list and hosts from the files that the container sees.
fn complete_network(spec: &Spec, guest: &mut Guest) {
    let (resolv_conf, hosts) = outline::network_files(spec);
    let read = |path: &std::path::Path| match hostfile::read(path, LARGEST_NETWORK_FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a network file of the container is not read");
            String::new()
        }
    };
    if guest.network.dns_servers.is_empty() {
        let path = resolv_conf.unwrap_or_else(|| "/etc/resolv.conf".into());
        outline::parse_resolv_conf(&read(&path), &mut guest.network);
    }
    if let Some(hosts) = hosts {
        guest.network.hosts = outline::parse_hosts(&read(&hosts));
    }
}

fn title(spec: &Spec, id: &str) -> String {
    let annotations = spec.annotations().as_ref();
    let name = annotations.and_then(|all| all.get(annotations::CONTAINER_NAME).or(all.get(CRI_CONTAINER_NAME)));
    name.cloned().unwrap_or_else(|| id.chars().take(12).collect())
}

/// containerd's annotation for the same.
const CRI_CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";

pub(crate) fn standard(record: &TaskRecord) -> Standard {
    Standard {
        stdin: record.stdin.clone(),
        stdout: record.stdout.clone(),
        stderr: record.stderr.clone(),
        terminal: record.terminal,
    }
}

/// What is told of a process that never was.
fn never() -> ExitRecord {
    ExitRecord { pid: 0, exit_code: 0, oom_killed: false, message: None, exited_at_nanos: 0, seen: true }
}

fn io_error(operation: &'static str, bundle: &Bundle) -> impl FnOnce(io::Error) -> TaskError + use<> {
    let path = bundle.dir().to_path_buf();
    move |source| TaskError::Io { operation, path, source }
}
