//! A front of a test's own, and the certainty that nothing of it stays behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use samara_shim_client::bundle::Bundle;
use samara_shim_client::cgroup::{Cgroup, Cgroups};
use samara_shim_client::front::CODE_DIR;
use samara_shim_client::{FrontConfig, Shim, process, start_front};

use crate::bundle::Container;

/// Nothing in these tests takes longer on a machine that works.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    home: PathBuf,
    pub(crate) shim: Shim,
}

/// The shim, built beside the tests.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_containerd-shim-samara-v1");

impl Node {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("samara-shim-").tempdir().expect("directory");
        let home = dir.keep();
        let shim = start_front(&config(&home)).await.expect("front");
        Self { home, shim }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn front_dir(&self) -> PathBuf {
        self.home.join("front")
    }

    /// A front where one died, as the agent does it.
    pub(crate) async fn restart(&mut self) {
        self.shim = start_front(&config(&self.home)).await.expect("front");
    }

    /// As above, of the binary at `exe`.
    pub(crate) async fn restart_from(&mut self, exe: &Path) {
        let config = FrontConfig { exe: exe.into(), ..config(&self.home) };
        self.shim = start_front(&config).await.expect("front");
    }

    pub(crate) fn container(&self, wasm: &[u8]) -> Container {
        Container::new(&self.home, wasm)
    }

    /// Creates and starts.
    pub(crate) async fn run(&self, container: &Container) -> u32 {
        self.shim.create(&container.request()).await.expect("created");
        self.shim.start(&container.id, "").await.expect("started")
    }

    pub(crate) fn front_pid(&self) -> i32 {
        let text = fs::read_to_string(self.front_dir().join("lock")).expect("lock");
        text.trim().parse().expect("pid")
    }

    pub(crate) fn zygote_pid(&self) -> i32 {
        zygotes(self.front_pid()).into_iter().next().expect("a zygote")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.front_dir().join("front.log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- front.log\n{}", self.log());
        }
        clean(&self.home);
    }
}

/// Also after a failed test: of all that was made below `home` no process, no cgroup, no file.
pub(crate) fn clean(home: &Path) {
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for front in entries(home.join("containerd")).chain([home.join("front")]) {
        let lock = fs::read_to_string(front.join("lock")).unwrap_or_default();
        let pid = lock.trim().parse().unwrap_or(0);
        zygotes(pid).into_iter().chain([pid]).for_each(kill);
    }
    let cgroups = Cgroups::detect().expect("cgroups");
    for bundle in entries(home.join("bundles")).map(Bundle::new) {
        if let Ok(Some(start)) = bundle.start_record()
            && matches!(process::open(start.pid, start.start_time), Ok(Some(_)))
        {
            kill(start.pid);
        }
        let id = bundle.dir().file_name().expect("name").to_string_lossy().into_owned();
        remove(&cgroups.group(&format!("/samara-test-{}/{id}", std::process::id())).expect("cgroup"));
    }
    // A zygote of an earlier front may be writing a last record; it ends when its socket is gone.
    let began = Instant::now();
    while let Err(error) = fs::remove_dir_all(home) {
        if began.elapsed() > SOON {
            return eprintln!("remove {}: {error}", home.display());
        }
        std::thread::yield_now();
    }
}

fn remove(cgroup: &Cgroup) {
    let began = Instant::now();
    while cgroup.kill().and_then(|()| cgroup.try_remove()).is_err() && began.elapsed() < Duration::from_secs(5) {
        std::thread::yield_now();
    }
    if let Some(parent) = cgroup.parent() {
        // Other tests' containers may stand in it.
        let _ = parent.try_remove();
    }
}

fn config(home: &Path) -> FrontConfig {
    // Shared: each guest is compiled once for all tests.
    let code = Path::new(env!("CARGO_TARGET_TMPDIR")).join("code");
    let env = BTreeMap::from([
        (CODE_DIR.to_owned(), code.display().to_string()),
        ("SAMARA_LOG".to_owned(), "samara_shim=debug,info".to_owned()),
    ]);
    // A benchmark may want another build measured.
    let exe = std::env::var_os("SAMARA_SHIM_BIN").map_or_else(|| EXE.into(), PathBuf::from);
    FrontConfig { exe, dir: home.join("front"), env }
}

pub(crate) fn kill(pid: i32) {
    if pid > 1
        && let Some(pid) = Pid::from_raw(pid)
    {
        // Gone already: all the better.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Children of the front that are zygotes.
fn zygotes(front: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.filter(|pid| name(*pid).is_some_and(|name| name.starts_with("samara-zygote"))).collect()
}

fn name(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Looks until it is so.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether the process lives (a zombie does not).
pub(crate) fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}
