//! Runs hooks: programs of the host's that are told of a container by its state on their standard input, as the OCI
//! runtime specification has it (`runtime.md`, "State"; `config.md`, "POSIX-platform Hooks").
//!
//! They run in the front's own namespaces when the container is complete and waits for its start, not in the middle of
//! its set-up: what they look for by its pid (its network namespace) is there.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use oci_spec::runtime::Spec;
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;

use crate::front::outline::HookOutline;
use samara_shim_client::bundle::Bundle;

/// Most of what a failed hook said that is told on.
const LONGEST: u64 = 2048;

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("run hook {}", path.display())]
    Run { path: PathBuf, source: io::Error },
    #[error("hook {} ended with {status}: {said}", path.display())]
    Failed { path: PathBuf, status: ExitStatus, said: String },
    #[error("hook {} did not end within {} s", path.display(), within.as_secs())]
    Late { path: PathBuf, within: Duration },
}

/// What a hook is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    oci_version: String,
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: PathBuf,
    annotations: std::collections::BTreeMap<String, String>,
}

impl State {
    /// `pid` of a container that has a process.
    pub(crate) fn new(spec: &Spec, bundle: &Bundle, id: &str, status: &'static str, pid: Option<i32>) -> Self {
        let annotations = spec.annotations().iter().flatten();
        Self {
            oci_version: spec.version().clone(),
            id: id.into(),
            status,
            pid,
            bundle: bundle.dir().into(),
            annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

/// Runs all, the first failure ends it. Waits; not for the front's one thread.
pub(crate) fn run(hooks: &[HookOutline], state: &State) -> Result<(), HookError> {
    hooks.iter().try_for_each(|hook| run_one(hook, state))
}

/// Runs all, and tells failures to the log.
pub(crate) fn run_all(hooks: &[HookOutline], state: &State) {
    for hook in hooks {
        if let Err(error) = run_one(hook, state) {
            tracing::warn!(container = state.id, error = crate::front::error::chain(&error), "hook");
        }
    }
}

fn run_one(hook: &HookOutline, state: &State) -> Result<(), HookError> {
    let failed = |source| HookError::Run { path: hook.path.clone(), source };
    // Files and no pipes: neither side ever waits for the other.
    let mut told = memory("hook-state").map_err(failed)?;
    serde_json::to_writer(&mut told, state).map_err(|error| failed(error.into()))?;
    told.flush().and_then(|()| told.rewind()).map_err(failed)?;
    let mut said = memory("hook-errors").map_err(failed)?;
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(told).stdout(Stdio::null()).stderr(said.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    let pidfd = Pid::from_raw(child.id().cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let ended = pidfd.transpose().map_err(|errno| failed(errno.into()))?;
    if !ended.is_some_and(|pidfd| ends_within(&pidfd, hook.within)) {
        // It may end at this very moment: all the better.
        let _ = child.kill();
        child.wait().map_err(failed)?;
        return Err(HookError::Late { path: hook.path.clone(), within: hook.within });
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.take(LONGEST).read_to_end(&mut text)).map_err(failed)?;
    let said = String::from_utf8_lossy(&text).trim().to_owned();
    Err(HookError::Failed { path: hook.path.clone(), status, said })
}

fn memory(name: &str) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

fn ends_within(pidfd: &OwnedFd, within: Duration) -> bool {
    let deadline = std::time::Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let Ok(left) = left.try_into() else { return false };
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(pidfd.as_fd(), rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) | Ok(0) => return false,
            Ok(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let spec = serde_json::json!({"ociVersion": "1.2.0", "annotations": {"a": "b".repeat(200_000)}});
        State::new(&serde_json::from_value(spec).expect("spec"), &Bundle::new("/b"), "c1", "created", Some(7))
    }

    fn shell(script: &str) -> HookOutline {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        HookOutline { path: "/bin/sh".into(), args, env: vec!["WHO=hook".into()], within: Duration::from_secs(60) }
    }

    #[test]
    fn a_hook_is_told_the_state_and_has_its_own_environment_only() {
        let dir = tempfile::tempdir().expect("directory");
        let (told, env) = (dir.path().join("told"), dir.path().join("env"));
        // The second reads nothing of a state longer than a pipe holds.
        let script = format!("cat > {}; /usr/bin/env > {}", told.display(), env.display());
        run(&[shell(&script), shell("exit 0")], &state()).expect("run");
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(told).expect("told")).expect("JSON");
        assert_eq!((&told["id"], &told["pid"], &told["status"]), (&"c1".into(), &7.into(), &"created".into()));
        assert_eq!(told["bundle"], "/b");
        let env = std::fs::read_to_string(env).expect("env");
        assert!(env.contains("WHO=hook") && !env.contains("CARGO"), "{env}");
    }

    #[test]
    fn a_failure_is_told_in_the_hooks_own_words_and_ends_the_row() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("after");
        let second = shell(&format!("touch {}", path.display()));
        let failing = shell("echo no network >&2; exit 3");
        let error = run(&[failing.clone(), second.clone()], &state()).expect_err("failed");
        assert!(error.to_string().ends_with("exit status: 3: no network"), "{error}");
        assert!(!path.exists());
        run_all(&[failing, second], &state());
        assert!(path.exists());
        let missing = HookOutline { path: "/nowhere/hook".into(), ..shell("") };
        assert_eq!(run(&[missing], &state()).expect_err("none").to_string(), "run hook /nowhere/hook");
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let hook = HookOutline { within: Duration::from_millis(50), ..shell("exec sleep 3600") };
        assert!(matches!(run(&[hook], &state()), Err(HookError::Late { .. })));
    }
}
