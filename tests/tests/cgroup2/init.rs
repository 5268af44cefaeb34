//! The machine's side: its first process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use serde::{Deserialize, Serialize};

use crate::outcome::FAILED;

/// Where the plan is.
pub(crate) const PLAN: &str = "/plan.json";
/// A profile, and what gives it to the kernel.
pub(crate) const PROFILE: &str = "/apparmor";
pub(crate) const PARSER: &str = "/bin/apparmor_parser";
/// What the cloud kernel has as modules and a container needs.
pub(crate) const MODULES: [&str; 2] = ["overlay.ko", "veth.ko"];

/// What runs in the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) runs: Vec<Run>,
}

/// A test program and its arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

/// Prepares the machine, runs the plan, and switches the machine off.
pub(crate) fn main() -> ExitCode {
    if let Err(error) = prepare().and_then(|()| run()) {
        println!("{FAILED}{error:#}");
    }
    rustix::fs::sync();
    match reboot(RebootCommand::PowerOff) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cannot switch off: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<()> {
    leave_initramfs()?;
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("securityfs", "/sys/kernel/security"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        fs::create_dir_all(at).with_context(|| format!("make {at}"))?;
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).with_context(|| format!("mount {at}"))?;
    }
    // The root is a tmpfs itself, so these are.
    for at in ["/tmp", "/run"] {
        fs::create_dir_all(at).with_context(|| format!("make {at}"))?;
    }
    for name in MODULES {
        let file = File::open(Path::new("/modules").join(name)).with_context(|| format!("open {name}"))?;
        finit_module(&file, c"", 0).with_context(|| format!("load {name}"))?;
    }
    let loaded =
        Command::new(PARSER).args(["--replace", "--skip-cache", PROFILE]).status().context("start the parser")?;
    ensure!(loaded.success(), "the AppArmor profile cannot be loaded: {loaded}");
    Ok(())
}

/// A container's `pivot_root` is not allowed in an initramfs: everything moves to a tmpfs, which becomes the root.
fn leave_initramfs() -> Result<()> {
    fs::create_dir_all("/new")?;
    mount(Some("root"), "/new", Some("tmpfs"), MsFlags::empty(), Some("size=75%")).context("mount the root")?;
    for entry in fs::read_dir("/")?.flatten().filter(|entry| entry.file_name() != "new") {
        copy(&entry.path(), &Path::new("/new").join(entry.file_name()))?;
    }
    std::env::set_current_dir("/new")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("move the root")?;
    nix::unistd::chroot(".").context("enter the root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)?.flatten() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if kind.is_file() {
        fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

fn run() -> Result<()> {
    let plan: Plan = serde_json::from_str(&fs::read_to_string(PLAN)?)?;
    for run in plan.runs {
        println!("running {}", run.program.display());
        let status = Command::new(&run.program).args(&run.args).env("PATH", "/bin").current_dir("/tmp").status();
        let status = status.with_context(|| format!("start {}", run.program.display()))?;
        if !status.success() {
            println!("{FAILED}{} {} ended with {status}", run.program.display(), run.args.join(" "));
        }
    }
    Ok(())
}
