//! A containerd of a test's own, and the certainty that nothing of it stays behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use samara_tests::cluster::tools_dir;
use samara_tests::node::samara;
use samara_tests::site::cgroup;

use crate::image::{self, IMAGE};

/// Nothing in these tests takes longer on a machine that works.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// Running, with the image of [`crate::image`] in it.
pub(crate) struct Daemon {
    home: PathBuf,
    /// Its namespace, in which the cgroups are too.
    pub(crate) namespace: String,
    process: Child,
}

/// What a program said, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let home = tempfile::Builder::new().prefix("samara-containerd-").tempdir().expect("directory").keep();
        let namespace = format!("samara-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config = format!(
            "version = 3\nroot = '{home}/root'\nstate = '{home}/state'\n[grpc]\n  address = '{home}/containerd.sock'\n",
            home = home.display()
        );
        fs::write(home.join("config.toml"), config).expect("config.toml");
        let process = spawn(&home);
        let daemon = Self { home, namespace, process };
        daemon.wait_until_it_serves();
        let archive = image::make(&daemon.home);
        daemon.ctr(&["image", "import", "--all-platforms", archive.to_str().expect("text")]).succeeded();
        daemon
    }

    /// SIGKILL, and another one in its place.
    pub(crate) fn restart(&mut self) {
        self.while_it_is_away(|| {});
    }

    /// The same, and something in between.
    pub(crate) fn while_it_is_away(&mut self, between: impl FnOnce()) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
        between();
        self.process = spawn(&self.home);
        self.wait_until_it_serves();
    }

    fn wait_until_it_serves(&self) {
        until("containerd serves", || self.ctr(&["version"]).code == Some(0));
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// `ctr` with these arguments.
    pub(crate) fn ctr(&self, args: &[&str]) -> Ran {
        self.ctr_with_input(args, Stdio::null())
    }

    pub(crate) fn ctr_with_input(&self, args: &[&str], input: Stdio) -> Ran {
        let mut command = self.command(args);
        command.stdin(input);
        ran(command)
    }

    /// `ctr` as it is to be started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(tools_dir().join("ctr"));
        command.arg("--address").arg(self.home.join("containerd.sock")).args(["--namespace", &self.namespace]);
        command.args(args);
        command
    }

    /// `ctr run` with our runtime; `args` are flags, then the container's id and its command.
    pub(crate) fn run(&self, flags: &[&str], id: &str, program: &[&str]) -> Ran {
        self.ctr(&self.run_args(flags, id, program).iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn run_args(&self, flags: &[&str], id: &str, program: &[&str]) -> Vec<String> {
        let mut args = vec!["run".to_owned(), "--runtime".to_owned(), self.runtime()];
        args.extend(["--fifo-dir".to_owned(), self.fifos()]);
        args.extend(flags.iter().chain(&[IMAGE, id]).chain(program).map(|arg| (*arg).to_owned()));
        args
    }

    /// What containerd is told to run.
    pub(crate) fn runtime(&self) -> String {
        shim().display().to_string()
    }

    /// Where `ctr` makes its fifos.
    fn fifos(&self) -> String {
        self.home.join("fifos").display().to_string()
    }

    /// A further process; its output and its exit code.
    pub(crate) fn exec(&self, id: &str, exec_id: &str, program: &[&str]) -> Ran {
        let fifos = self.fifos();
        let flags = ["task", "exec", "--fifo-dir", &fifos, "--exec-id", exec_id, id];
        self.ctr(&flags.iter().chain(program).copied().collect::<Vec<_>>())
    }

    /// Pid and status of a task, as `ctr task ls` shows it.
    pub(crate) fn task(&self, id: &str) -> Option<(i32, String)> {
        let list = self.ctr(&["task", "ls"]).succeeded();
        let mut lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words.first() == Some(&id)).and_then(|words| match words.as_slice() {
            [_, pid, status] => Some((pid.parse().ok()?, (*status).to_owned())),
            _ => None,
        })
    }

    /// Deletes a task that has ended; gives its exit code, which `ctr` tells as a warning.
    pub(crate) fn delete(&self, id: &str) -> i32 {
        let ran = self.ctr(&["task", "delete", id]);
        let said = ran.stderr.split("exit with non-zero exit code ").nth(1);
        let digits = said.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        match digits {
            None if ran.code == Some(0) => 0,
            digits => digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{ran:?}")),
        }
    }

    /// Directories of the fronts that there are.
    pub(crate) fn fronts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.join("run/containerd")).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }

    pub(crate) fn front_pid(&self) -> i32 {
        let fronts = self.fronts();
        assert_eq!(fronts.len(), 1, "{fronts:?}");
        fs::read_to_string(fronts[0].join("lock")).expect("lock").trim().parse().expect("pid")
    }

    /// Waits until it is so.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        let began = Instant::now();
        while let left = self.left()
            && !left.is_empty()
        {
            assert!(began.elapsed() < SOON, "still there: {left:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What tasks could leave behind: fronts, cgroups, bundles, mounts. (Fifos are `ctr`'s.)
    fn left(&self) -> Vec<String> {
        let listed = |dir: PathBuf| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
        };
        let bundles = self.home.join("state/io.containerd.runtime.v2.task").join(&self.namespace);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let home = self.home.display().to_string();
        let cgroups = cgroup::beneath(&self.namespace).into_iter().map(|dir| dir.display().to_string());
        listed(self.home.join("run/containerd"))
            .into_iter()
            .chain(listed(bundles))
            .chain(mounts.lines().filter(|line| line.contains(&home)).map(str::to_owned))
            // The scope itself is everybody's.
            .chain(cgroups.filter(|dir| !dir.ends_with(&self.namespace)))
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for front in self.fronts() {
                eprintln!("--- front.log\n{}", fs::read_to_string(front.join("front.log")).unwrap_or_default());
            }
            eprintln!("--- containerd.log\n{}", fs::read_to_string(self.home.join("log")).unwrap_or_default());
        }
        // Before the containers, or it would start deletions beside ours.
        let _ = self.process.kill();
        let _ = self.process.wait();
        for front in self.fronts() {
            let lock = fs::read_to_string(front.join("lock")).unwrap_or_default();
            if let Some(pid) = lock.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
                // Gone already: all the better.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if let Err(error) = cgroup::remove(&self.namespace) {
            eprintln!("{error:#}");
        }
        // Zygotes end with their sockets.
        if let Err(error) = fs::remove_dir_all(&self.home) {
            eprintln!("remove {}: {error}", self.home.display());
        }
    }
}

impl Ran {
    /// Its output.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// Looks until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program to its end; one that hangs is killed and has no code.
pub(crate) fn ran(mut command: Command) -> Ran {
    let (stdout, stderr) =
        (tempfile::NamedTempFile::new().expect("file"), tempfile::NamedTempFile::new().expect("file"));
    command.stdout(stdout.reopen().expect("file")).stderr(stderr.reopen().expect("file"));
    let mut child = command.spawn().expect("program: `make tools` builds it");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("child") {
            break status;
        }
        if began.elapsed() > SOON {
            child.kill().expect("killed");
            break child.wait().expect("reaped");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |file: &tempfile::NamedTempFile| fs::read_to_string(file.path()).expect("text");
    Ran { code: status.code(), stdout: text(&stdout), stderr: text(&stderr) }
}

/// The shim that was built beside the node.
fn shim() -> PathBuf {
    samara().with_file_name("containerd-shim-samara-v1")
}

fn spawn(home: &Path) -> Child {
    let log = File::options().append(true).create(true).open(home.join("log")).expect("log");
    Command::new(tools_dir().join("containerd"))
        .arg("--config")
        .arg(home.join("config.toml"))
        .env("SAMARA_RUN_DIR", home.join("run"))
        // Shared: each guest is compiled once for all tests.
        .env("SAMARA_CODE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("containerd-code"))
        .env("SAMARA_LOG", "samara_shim=debug,info")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .expect("containerd: `make tools` builds it")
}
