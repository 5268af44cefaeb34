//! The cgroups beneath which a run's agents and pods are: found in every hierarchy, emptied, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::process::ProcessId;

const ROOT: &str = "/sys/fs/cgroup";

/// Whether limits can be set at all: memory, cpu and pids on v1 or v2.
pub fn controllers_usable() -> bool {
    let unified = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    ["memory", "cpu", "pids"].iter().all(|name| {
        unified.split_whitespace().any(|word| word == *name) || hierarchies().iter().any(|dir| dir.ends_with(name))
    })
}

/// Makes `<scope>/<leaf>` for an agent: in one hierarchy, which is enough to find its processes again.
pub fn make_for_agent(scope: &str, leaf: &str) -> Result<PathBuf> {
    let hierarchies = hierarchies();
    let hierarchy =
        hierarchies.iter().find(|dir| dir.ends_with("pids")).or(hierarchies.first()).context("no cgroup hierarchy")?;
    let dir = hierarchy.join(scope).join(leaf);
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    Ok(dir)
}

/// All directories at or beneath `scope`, deepest first.
pub fn beneath(scope: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        collect(&hierarchy.join(scope), &mut found);
    }
    found
}

/// Kills all processes beneath `scope` and removes the directories.
pub fn remove(scope: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let dirs = beneath(scope);
        if dirs.is_empty() {
            return Ok(());
        }
        // A process may fork while we look: its child is found on the next round.
        for process in dirs.iter().flat_map(|dir| members(dir)) {
            process.kill()?;
        }
        let mut stuck = None;
        for dir in &dirs {
            if let Err(error) = fs::remove_dir(dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                stuck = Some((dir.clone(), error));
            }
        }
        match stuck {
            Some((dir, error)) if Instant::now() > deadline => bail!("cannot remove {}: {error}", dir.display()),
            // The kernel frees a cgroup a moment after its last process has ended.
            Some(_) => std::thread::sleep(Duration::from_millis(5)),
            None => {}
        }
    }
}

/// Processes in a cgroup directory.
pub fn members(dir: &Path) -> Vec<ProcessId> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter_map(ProcessId::of).collect()
}

/// v1: one directory per controller (`cpu,cpuacct` may be one, with links to it). v2: the root.
fn hierarchies() -> Vec<PathBuf> {
    if Path::new(ROOT).join("cgroup.procs").exists() {
        return vec![ROOT.into()];
    }
    let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
    let mut dirs: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|dir| dir.join("cgroup.procs").exists()).collect();
    dirs.sort();
    dirs
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect(&entry.path(), found);
    }
    found.push(dir.to_owned());
}

/// CPU time which a process has used, from `/proc/<pid>/schedstat` of all its threads (nanoseconds, unlike `stat`'s ticks).
pub fn cpu_time(pid: i32) -> Result<Duration> {
    let dir = format!("/proc/{pid}/task");
    let mut nanos = 0;
    for entry in fs::read_dir(&dir).with_context(|| format!("list {dir}"))?.flatten() {
        // A thread may end while we look.
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
        nanos += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}
