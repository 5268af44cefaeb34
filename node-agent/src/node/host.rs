//! What the machine is: read once where it cannot change, and measured where it does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{NodeSwapStatus, NodeSystemInfo};

/// The Kubernetes release whose node we are: what `kubeletVersion` begins with and version skew is judged by.
const KUBERNETES_VERSION: &str = "v1.36.3";

/// The machine does not say what we need to know.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file of `/proc`, `/sys` or `/etc` cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not as the kernel writes it.
    #[error("{}: no {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// A file system cannot be measured.
    #[error("measuring the file system of {}", path.display())]
    Disk {
        /// A directory on it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A machine, by the directories that show it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where `/proc`, `/sys` and `/etc` are; `/` but in tests.
    root: PathBuf,
    /// On the file system whose space pods use.
    storage: PathBuf,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// `MemTotal`.
    pub total: u64,
    /// `MemAvailable`: what can be had without swapping.
    pub available: u64,
    /// `SwapTotal`.
    pub swap_total: u64,
    /// `SwapFree`.
    pub swap_free: u64,
}

/// A file system: bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that an unprivileged user may still take.
    pub available: u64,
    /// Inodes in all; 0 if the file system has no such limit.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_free: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pids {
    /// The kernel's limit.
    pub max: u64,
    /// How many there are.
    pub used: u64,
}

impl Machine {
    /// This machine; `storage` is the agent's root directory.
    pub fn new(storage: impl Into<PathBuf>) -> Self {
        Self { root: "/".into(), storage: storage.into() }
    }

    /// How many CPUs we may use.
    pub fn cpus(&self) -> u64 {
        let ours = rustix::thread::sched_getaffinity(None).map(|set| u64::from(set.count()));
        ours.unwrap_or(1).max(1)
    }

    /// `/proc/meminfo`.
    pub fn memory(&self) -> Result<Memory, HostError> {
        let path = self.path("proc/meminfo");
        let text = read(&path)?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        let missing = |what| HostError::Format { path: path.clone(), what };
        Ok(Memory {
            total: field("MemTotal").ok_or_else(|| missing("MemTotal"))?,
            available: field("MemAvailable").ok_or_else(|| missing("MemAvailable"))?,
            swap_total: field("SwapTotal").unwrap_or_default(),
            swap_free: field("SwapFree").unwrap_or_default(),
        })
    }

    /// The file system on which images and volumes are.
    pub fn disk(&self) -> Result<Disk, HostError> {
        disk_of(&self.storage)
    }

    /// `/proc/sys/kernel/pid_max` (or `threads-max`, if less) and `/proc/loadavg`.
    pub fn pids(&self) -> Result<Pids, HostError> {
        let path = self.path("proc/loadavg");
        let used = read(&path)?.split_ascii_whitespace().nth(3).and_then(|tasks| tasks.split_once('/')?.1.parse().ok());
        let limit = |file: &str| -> Result<u64, HostError> {
            let path = self.path(file);
            read(&path)?.trim().parse().map_err(|_| HostError::Format { path, what: "a number" })
        };
        Ok(Pids {
            max: limit("proc/sys/kernel/pid_max")?.min(limit("proc/sys/kernel/threads-max")?),
            used: used.ok_or(HostError::Format { path, what: "number of tasks" })?,
        })
    }

    /// `status.nodeInfo`: the truth about the host.
    pub fn system_info(&self) -> Result<NodeSystemInfo, HostError> {
        let kernel = rustix::system::uname();
        let swap = self.memory()?.swap_total;
        Ok(NodeSystemInfo {
            machine_id: self.first_of(&["etc/machine-id", "var/lib/dbus/machine-id"]),
            system_uuid: self.first_of(&[
                "sys/class/dmi/id/product_uuid",
                "proc/device-tree/vm,uuid",
                "etc/machine-id",
            ]),
            boot_id: self.first_of(&["proc/sys/kernel/random/boot_id"]),
            kernel_version: kernel.release().to_string_lossy().into_owned(),
            os_image: os_image(&read(&self.path("etc/os-release")).unwrap_or_default()),
            container_runtime_version: concat!("samara://", env!("CARGO_PKG_VERSION")).into(),
            kubelet_version: format!("{KUBERNETES_VERSION}+samara.{}", env!("CARGO_PKG_VERSION")),
            kube_proxy_version: String::new(),
            operating_system: "linux".into(),
            architecture: go_architecture(std::env::consts::ARCH).into(),
            swap: (swap > 0).then(|| NodeSwapStatus { capacity: i64::try_from(swap).ok() }),
        })
    }

    /// The host's name, as the kernel has it.
    pub fn hostname() -> String {
        rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase()
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The first of the files that says something. A small board has none: that is no reason not to join.
    fn first_of(&self, files: &[&str]) -> String {
        let said = |file: &&str| {
            fs::read_to_string(self.path(file)).ok().map(|text| text.trim_matches(['\0', '\n', ' ']).to_owned())
        };
        files.iter().filter_map(said).find(|text| !text.is_empty()).unwrap_or_default()
    }
}

/// Measures the file system that holds `path`.
pub fn disk_of(path: &Path) -> Result<Disk, HostError> {
    let stat =
        rustix::fs::statvfs(path).map_err(|error| HostError::Disk { path: path.to_owned(), source: error.into() })?;
    Ok(Disk {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
    })
}

/// `PRETTY_NAME` of `os-release(5)`.
fn os_image(os_release: &str) -> String {
    let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.unwrap_or("Linux").trim().trim_matches(['"', '\'']).to_owned()
}

/// Go's names, which Kubernetes uses.
fn go_architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn read(path: &Path) -> Result<String, HostError> {
    fs::read_to_string(path).map_err(|source| HostError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        let machine = Machine { root: dir.path().to_owned(), storage: dir.path().to_owned() };
        (dir, machine)
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let (_dir, machine) = machine(&[(
            "proc/meminfo",
            "MemTotal:       24593948 kB\nMemFree: 1 kB\nMemAvailable:   20 kB\nSwapTotal:  4 kB\n",
        )]);
        let expected = Memory { total: 24_593_948 * 1024, available: 20 * 1024, swap_total: 4096, swap_free: 0 };
        assert_eq!(machine.memory().expect("read"), expected);
    }

    #[test]
    fn a_meminfo_without_its_lines_is_named() {
        let (_dir, machine) = machine(&[("proc/meminfo", "MemTotal: lots\n")]);
        let error = machine.memory().expect_err("no number");
        assert!(error.to_string().ends_with("proc/meminfo: no MemTotal"), "{error}");
    }

    #[test]
    fn tasks_are_counted_as_the_kernel_does() {
        let (_dir, machine) = machine(&[
            ("proc/loadavg", "0.1 0.2 0.3 2/345 6789\n"),
            ("proc/sys/kernel/pid_max", "4194304\n"),
            ("proc/sys/kernel/threads-max", "32768\n"),
        ]);
        assert_eq!(machine.pids().expect("read"), Pids { max: 32768, used: 345 });
    }

    #[test]
    fn an_operating_system_without_a_name_is_linux() {
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"), "Debian GNU/Linux 13 (trixie)");
        assert_eq!(os_image(""), "Linux");
    }

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::new("/");
        let memory = machine.memory().expect("meminfo");
        assert!(memory.total > 0 && memory.available <= memory.total);
        let disk = machine.disk().expect("statvfs");
        assert!(disk.total > 0 && disk.available <= disk.total);
        let info = machine.system_info().expect("nodeInfo");
        assert_eq!(info.operating_system, "linux");
        assert!(info.kubelet_version.starts_with("v1."), "{}", info.kubelet_version);
        assert!(!info.boot_id.is_empty());
    }
}
