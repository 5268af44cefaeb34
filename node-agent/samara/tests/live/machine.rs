//! A root and a run directory, and `samara` on them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Directories that nobody else uses; containers in them end with this.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

/// What a run of `samara` said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Anything that should happen has happened by then.
const SOON: Duration = Duration::from_secs(20);

impl Machine {
    pub(crate) fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests make namespaces and cgroups: run them as root");
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command, not started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("SAMARA_ROOT_DIR", self.path("root")).env("SAMARA_RUN_DIR", self.path("run"));
        command.env("DOCKER_CONFIG", self.path("docker"));
        command
    }

    /// Runs it to its end.
    pub(crate) fn samara(&self, args: &[&str]) -> Said {
        said(self.command(args).output().unwrap())
    }

    /// Runs it with this on standard input.
    pub(crate) fn fed(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        said(child.wait_with_output().unwrap())
    }

    /// Runs it, and what it printed if it went well.
    #[track_caller]
    pub(crate) fn good(&self, args: &[&str]) -> String {
        let said = self.samara(args);
        assert_eq!(said.code, 0, "samara {args:?}: {said:?}");
        said.out
    }

    /// As JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }

    /// Asks until the answer is yes.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One word of `ps`.
    pub(crate) fn status(&self, name: &str) -> String {
        let all = self.json(&["ps", "-a", "--format", "json"]);
        let all = all.as_array().unwrap();
        let found = all.iter().find(|container| container["name"] == name);
        found.map_or_else(|| "gone".to_owned(), |found| found["status"].as_str().unwrap().to_owned())
    }

    /// Names of files in a directory; none if there is no such directory.
    pub(crate) fn files(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(dir)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Of a test that failed pods may be left.
        for play in self.files("run/kube/manifests") {
            let play = format!("run/kube/manifests/{play}");
            self.samara(&["kube", "down", &play]);
        }
        let ids = self.samara(&["ps", "-aq"]);
        for id in ids.out.lines() {
            self.samara(&["rm", "-f", id]);
        }
        if std::thread::panicking() {
            return;
        }
        assert_eq!(self.files("run/cli"), [""; 0], "fronts are left");
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A sample that was built for preview 1.
pub(crate) fn p1(name: &str) -> String {
    sample("wasm32-wasip1", name)
}

/// A component.
pub(crate) fn p2(name: &str) -> String {
    sample("wasm32-wasip2", name)
}

fn sample(target: &str, name: &str) -> String {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/target");
    let path = samples.join(target).join("release").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is not built: `make samples`", path.display());
    path.display().to_string()
}
