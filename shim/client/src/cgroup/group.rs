//! One cgroup: a directory in each hierarchy that its container needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal, kill_process};

use super::hierarchy::{Cgroups, Controller, Version};
use super::limits::{self, Setting};
use super::path::PathError;
use super::stats::{CpuStats, MemoryStats, PidsStats, Stats, limit, number};

/// How long the kernel may take to let go of a cgroup whose processes are reaped.
const LETS_GO_WITHIN: Duration = Duration::from_secs(5);

/// A cgroup by name; it may or may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    version: Version,
    /// Mount point of the hierarchy, and the path below it.
    dirs: BTreeMap<Controller, (PathBuf, PathBuf)>,
}

/// What can go wrong, with the file it went wrong with.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no control group hierarchy is mounted")]
    None,
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("make cgroup {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("write {value:?} to {}", path.display())]
    Write { path: PathBuf, value: String, source: io::Error },
    #[error("open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("remove cgroup {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("this host has no freezer controller")]
    NoFreezer,
}

impl Cgroup {
    pub(super) fn new(version: Version, dirs: BTreeMap<Controller, (PathBuf, PathBuf)>) -> Self {
        Self { version, dirs }
    }

    /// The cgroup above; `None` for one that stands directly below the root.
    pub fn parent(&self) -> Option<Self> {
        let up = |(controller, (mount, below)): (&Controller, &(PathBuf, PathBuf))| {
            let above = below.parent().filter(|above| !above.as_os_str().is_empty())?;
            Some((*controller, (mount.clone(), above.to_path_buf())))
        };
        let dirs: BTreeMap<_, _> = self.dirs.iter().filter_map(up).collect();
        (!dirs.is_empty()).then_some(Self { version: self.version, dirs })
    }

    /// Makes it with its parents, and sets its limits. Twice is as once. Gives the controllers that the resources ask
    /// for and the host has not; they are also logged, once per controller and process.
    pub fn make(&self, resources: &LinuxResources) -> Result<Vec<Controller>, CgroupError> {
        let wanted = Controller::ALWAYS.into_iter().chain(limits::further_controllers(self.version, resources));
        let wanted: BTreeSet<_> = wanted.collect();
        let mut made = BTreeSet::new();
        for (controller, (mount, below)) in self.dirs.iter().filter(|(controller, _)| wanted.contains(controller)) {
            if made.insert(mount) {
                self.make_in(mount, below, &wanted)?;
            }
            if *controller == Controller::Cpuset && self.version == Version::V1 {
                inherit_cpuset(mount, below)?;
            }
        }
        self.limit(resources)
    }

    /// Sets limits of a cgroup that exists.
    pub fn limit(&self, resources: &LinuxResources) -> Result<Vec<Controller>, CgroupError> {
        let settings = limits::settings(self.version, resources);
        let (have, lack): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|setting| self.dirs.contains_key(&setting.controller));
        // A limit may only be lowered or raised after another one was: what fails first is tried again after the rest.
        let failed: Vec<_> = have.iter().filter(|setting| self.set(setting).is_err()).collect();
        failed.into_iter().try_for_each(|setting| self.set(setting))?;
        let mut lack: Vec<_> = lack.into_iter().map(|setting| setting.controller).collect();
        lack.dedup();
        lack.iter().for_each(|controller| report_missing(*controller));
        Ok(lack)
    }

    /// Whether any of its directories exists.
    pub fn exists(&self) -> bool {
        self.existing().next().is_some()
    }

    /// Files to write `0` into, by which a single-threaded process moves itself here.
    pub fn open_tasks(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let name = match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        let open = |dir: PathBuf| {
            let path = dir.join(name);
            let file = OpenOptions::new().write(true).open(&path);
            file.map(OwnedFd::from).map_err(|source| CgroupError::Open { path, source })
        };
        self.existing().map(open).collect()
    }

    /// What it has used.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let pids = PidsStats {
            current: number(&self.read(Controller::Pids, "pids.current")?).unwrap_or(0),
            limit: limit(&self.read(Controller::Pids, "pids.max")?),
        };
        let (cpu, memory) = match self.version {
            Version::V1 => (self.cpu_v1()?, self.memory_v1()?),
            Version::V2 => (CpuStats::v2(&self.read(Controller::Cpu, "cpu.stat")?), self.memory_v2()?),
        };
        Ok(Stats { cpu, memory, pids })
    }

    /// Bytes of memory that its processes may have now, `None` without limit; `otherwise` where nothing limits memory.
    pub fn memory_limit(&self, otherwise: Option<u64>) -> Result<Option<u64>, CgroupError> {
        let file = match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let text = self.read(Controller::Memory, file)?;
        Ok(if text.is_empty() { otherwise } else { limit(&text) })
    }

    /// How many of its processes the kernel ended for want of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        Ok(super::stats::field(&self.read(Controller::Memory, self.oom_file())?, "oom_kill"))
    }

    /// The file that holds the line `oom_kill <count>`; `None` without memory controller.
    pub fn open_oom_counter(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(path) = self.dir(Controller::Memory).map(|dir| dir.join(self.oom_file())) else {
            return Ok(None);
        };
        match fs::File::open(&path) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CgroupError::Open { path, source }),
        }
    }

    /// Processes in it, as the host numbers them.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let Some(dir) = self.existing().next() else {
            return Ok(Vec::new());
        };
        let path = dir.join("cgroup.procs");
        let text = read_or_empty(&path)?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// A directory of it, or below it, in which there are processes.
    pub fn occupied(&self) -> Result<Option<PathBuf>, CgroupError> {
        for dir in self.existing() {
            let occupied = match self.version {
                Version::V1 => occupied_below(&dir)?,
                // Counts what is below, too.
                Version::V2 => {
                    let events = read_or_empty(&dir.join("cgroup.events"))?;
                    (super::stats::field(&events, "populated") > 0).then_some(dir)
                }
            };
            if occupied.is_some() {
                return Ok(occupied);
            }
        }
        Ok(None)
    }

    /// SIGKILL to all in it; in v2 also to all below it.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let at_once = self.existing().map(|dir| dir.join("cgroup.kill")).find(|path| path.exists());
        if let Some(path) = at_once {
            return write(&path, "1");
        }
        // A process may fork between the reading and the signal; its children are there at the next reading.
        for _ in 0..16 {
            let pids = self.pids()?;
            if pids.is_empty() {
                break;
            }
            for pid in pids.into_iter().filter(|pid| *pid > 0).filter_map(Pid::from_raw) {
                // Gone already: all the better.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Holds all processes where they are, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        if self.version == Version::V2 {
            let dir = self.existing().next().ok_or(CgroupError::NoFreezer)?;
            return write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" });
        }
        let dir = self.dir(Controller::Freezer).ok_or(CgroupError::NoFreezer)?;
        // Few containers are ever paused: they join this hierarchy only then.
        fs::create_dir_all(&dir).map_err(|source| CgroupError::Make { path: dir.clone(), source })?;
        for pid in self.pids()? {
            write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
        write(&dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
    }

    /// Whether its processes are held.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        match self.version {
            Version::V2 => {
                let dir = self.existing().next();
                let state = dir.map_or(Ok(String::new()), |dir| read_or_empty(&dir.join("cgroup.freeze")))?;
                Ok(state.trim() == "1")
            }
            Version::V1 => Ok(matches!(self.read(Controller::Freezer, "freezer.state")?.trim(), "FROZEN" | "FREEZING")),
        }
    }

    /// Removes it, waiting while the kernel still counts processes that ended. Its parents stay. Twice is as once.
    pub async fn remove(&self) -> Result<(), CgroupError> {
        let deadline = tokio::time::Instant::now() + LETS_GO_WITHIN;
        let mut pause = Duration::from_millis(1);
        loop {
            let busy = match self.try_remove() {
                Err(error @ CgroupError::Remove { .. }) if tokio::time::Instant::now() < deadline => error,
                done => return done,
            };
            tracing::trace!(error = %busy, "cgroup is still busy");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Removes it now, or fails because it is busy.
    pub fn try_remove(&self) -> Result<(), CgroupError> {
        for dir in self.existing() {
            match fs::remove_dir(&dir) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CgroupError::Remove { path: dir, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts this very cgroup in both versions, not its children.
    fn oom_file(&self) -> &'static str {
        match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events.local",
        }
    }

    fn dir(&self, controller: Controller) -> Option<PathBuf> {
        self.dirs.get(&controller).map(|(mount, below)| mount.join(below))
    }

    /// Each directory once, if it exists.
    fn existing(&self) -> impl Iterator<Item = PathBuf> {
        let dirs: BTreeSet<_> = self.dirs.values().map(|(mount, below)| mount.join(below)).collect();
        dirs.into_iter().filter(|dir| dir.is_dir())
    }

    fn make_in(&self, mount: &Path, below: &Path, wanted: &BTreeSet<Controller>) -> Result<(), CgroupError> {
        let mut dir = mount.to_path_buf();
        for name in below {
            if self.version == Version::V2 {
                enable(&dir, wanted)?;
            }
            dir.push(name);
            match fs::create_dir(&dir) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(CgroupError::Make { path: dir, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn set(&self, setting: &Setting) -> Result<(), CgroupError> {
        let Some(dir) = self.dir(setting.controller) else {
            return Ok(());
        };
        match write(&dir.join(&setting.file), &setting.value) {
            Err(CgroupError::Write { source, .. })
                if source.kind() == io::ErrorKind::NotFound && optional(&setting.file) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// A file of a controller; empty if the host has no such controller or file.
    fn read(&self, controller: Controller, file: &str) -> Result<String, CgroupError> {
        self.dir(controller).map_or(Ok(String::new()), |dir| read_or_empty(&dir.join(file)))
    }

    fn cpu_v1(&self) -> Result<CpuStats, CgroupError> {
        let acct = |file| self.read(Controller::Cpuacct, file);
        let (usage, user, system) = (acct("cpuacct.usage")?, acct("cpuacct.usage_user")?, acct("cpuacct.usage_sys")?);
        Ok(CpuStats::v1(&usage, &user, &system, &self.read(Controller::Cpu, "cpu.stat")?))
    }

    fn memory_v1(&self) -> Result<MemoryStats, CgroupError> {
        let read = |file| self.read(Controller::Memory, file);
        Ok(MemoryStats::v1(
            &read("memory.usage_in_bytes")?,
            &read("memory.max_usage_in_bytes")?,
            &read("memory.limit_in_bytes")?,
            &read("memory.stat")?,
            &read("memory.oom_control")?,
        ))
    }

    fn memory_v2(&self) -> Result<MemoryStats, CgroupError> {
        let read = |file| self.read(Controller::Memory, file);
        Ok(MemoryStats::v2(
            &read("memory.current")?,
            &read("memory.peak")?,
            &read("memory.max")?,
            &read("memory.stat")?,
            &read("memory.swap.current")?,
            &read("memory.events.local")?,
        ))
    }
}

/// Knobs that some kernels are built or booted without; their absence weakens no limit that Kubernetes sets.
fn optional(file: &str) -> bool {
    const FILES: [&str; 10] = [
        "memory.memsw.limit_in_bytes",
        "memory.swap.max",
        "memory.swappiness",
        "cpu.cfs_burst_us",
        "cpu.max.burst",
        "cpu.idle",
        "cpu.rt_period_us",
        "cpu.rt_runtime_us",
        "blkio.weight",
        "io.weight",
    ];
    FILES.contains(&file)
}

/// v2: lets children of `dir` have the controllers, as far as `dir` has them itself.
fn enable(dir: &Path, wanted: &BTreeSet<Controller>) -> Result<(), CgroupError> {
    let available = read_or_empty(&dir.join("cgroup.controllers"))?;
    let path = dir.join("cgroup.subtree_control");
    let enabled = read_or_empty(&path)?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|listed| listed == name);
    let names = Cgroups::v2_names().filter(|(controller, name)| wanted.contains(controller) && has(&available, name));
    let new: Vec<_> = names.filter(|(_, name)| !has(&enabled, name)).map(|(_, name)| format!("+{name}")).collect();
    if new.is_empty() { Ok(()) } else { write(&path, &new.join(" ")) }
}

/// v1: the first of these directories in which there are processes.
fn occupied_below(dir: &Path) -> Result<Option<PathBuf>, CgroupError> {
    if !read_or_empty(&dir.join("cgroup.procs"))?.trim().is_empty() {
        return Ok(Some(dir.into()));
    }
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|source| CgroupError::Read { path: dir.into(), source })?,
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if let Some(occupied) = occupied_below(&entry.path())? {
            return Ok(Some(occupied));
        }
    }
    Ok(None)
}

/// v1: a cpuset without cpus and mems takes no process, and a new one has none.
fn inherit_cpuset(mount: &Path, below: &Path) -> Result<(), CgroupError> {
    let mut dir = mount.to_path_buf();
    for name in below {
        let child = dir.join(name);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if read_or_empty(&child.join(file))?.trim().is_empty() {
                write(&child.join(file), read_or_empty(&dir.join(file))?.trim())?;
            }
        }
        dir = child;
    }
    Ok(())
}

fn read_or_empty(path: &Path) -> Result<String, CgroupError> {
    match fs::read_to_string(path) {
        // ENODEV: the cgroup was removed while its file was open.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(19) => Ok(String::new()),
        Err(source) => Err(CgroupError::Read { path: path.into(), source }),
        Ok(text) => Ok(text),
    }
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Write { path: path.into(), value: value.into(), source })
}

fn report_missing(controller: Controller) {
    static REPORTED: AtomicU32 = AtomicU32::new(0);
    let bit = 1 << controller as u32;
    if REPORTED.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        tracing::warn!(
            controller = controller.name(),
            "this host has no such cgroup controller: its limits do not hold"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories that look like v2, without a kernel behind.
    fn v2(dir: &Path) -> Cgroup {
        fs::write(dir.join("cgroup.controllers"), "cpu memory").expect("controllers");
        fs::write(dir.join("cgroup.subtree_control"), "").expect("subtree control");
        let place = (dir.to_path_buf(), PathBuf::from("leaf"));
        let dirs = [Controller::Cpu, Controller::Memory].map(|controller| (controller, place.clone()));
        Cgroup::new(Version::V2, dirs.into())
    }

    #[test]
    fn a_controller_the_host_lacks_is_told_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().expect("directory");
        let group = v2(dir.path());
        let resources = serde_json::from_str(r#"{"pids": {"limit": 5}, "memory": {"swap": 1}}"#).expect("resources");
        assert_eq!(group.make(&resources).expect("made"), [Controller::Pids]);
        assert!(dir.path().join("leaf").is_dir());
        let enabled = fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("enabled");
        assert_eq!(enabled, "+cpu +memory");
    }

    #[test]
    fn a_limit_that_cannot_be_set_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().expect("directory");
        let group = v2(dir.path());
        let resources = serde_json::from_str(r#"{"memory": {"limit": 1}}"#).expect("resources");
        let error = group.make(&resources).expect_err("no such file");
        assert_eq!(error.to_string(), format!("write \"1\" to {}/leaf/memory.max", dir.path().display()));
    }

    #[test]
    fn who_is_in_a_cgroup_or_below_it_is_seen_in_both_versions() {
        let dir = tempfile::tempdir().expect("directory");
        let group = v2(dir.path());
        let leaf = dir.path().join("leaf");
        fs::create_dir_all(leaf.join("inner")).expect("directories");
        fs::write(leaf.join("cgroup.events"), "populated 0\nfrozen 0\n").expect("events");
        assert_eq!(group.occupied().expect("looked"), None);
        fs::write(leaf.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("events");
        assert_eq!(group.occupied().expect("looked"), Some(leaf.clone()));

        let group = Cgroup { version: Version::V1, ..group };
        fs::write(leaf.join("cgroup.procs"), "").expect("processes");
        assert_eq!(group.occupied().expect("looked"), None);
        fs::write(leaf.join("inner/cgroup.procs"), "0\n").expect("processes");
        assert_eq!(group.occupied().expect("looked"), Some(leaf.join("inner")));
    }

    #[test]
    fn a_cgroup_that_is_not_there_has_nothing_in_it() {
        let dir = tempfile::tempdir().expect("directory");
        let group = v2(dir.path());
        assert!(!group.exists());
        assert_eq!(group.occupied().expect("looked"), None);
        assert_eq!(group.pids().expect("pids"), Vec::<i32>::new());
        assert_eq!(group.oom_kills().expect("kills"), 0);
        assert_eq!(group.stats().expect("stats"), Stats::default());
        group.try_remove().expect("twice is as once");
    }
}
