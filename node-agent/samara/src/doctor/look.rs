//! Reads the machine.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};
use rustix::thread::CapabilitySet;
use samara_shim_client::cgroup::{Cgroups, Controller, Version};

use super::Facts;
use crate::place::Place;

/// For a registry to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn look(place: &Place, registries: &[String]) -> Facts {
    let cgroups = Cgroups::detect().ok();
    let version = cgroups.as_ref().map(|cgroups| match cgroups.version() {
        Version::V1 => "v1".to_owned(),
        Version::V2 => "v2".to_owned(),
    });
    let lacks = |controller: &Controller| cgroups.as_ref().is_some_and(|cgroups| !cgroups.has(*controller));
    let missing = Controller::ALWAYS.iter().filter(|controller| lacks(controller));
    Facts {
        root: rustix::process::geteuid().is_root(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cgroup: version,
        missing_controllers: missing.map(|controller| controller.name().to_owned()).collect(),
        missing_namespaces: missing_namespaces(),
        landlock: landlock_abi(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        overlay: fs::read_to_string("/proc/filesystems")
            .is_ok_and(|list| list.lines().any(|line| line.ends_with("\toverlay"))),
        missing_capabilities: missing_capabilities(),
        ip_forward: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value.trim() == "1"),
        free: free(place.root_dir()),
        root_dir: place.root_dir().display().to_string(),
        run_dir_error: run_dir_error(place.run_dir()),
        registries: registries.iter().map(|name| (name.clone(), unreachable(name))).collect(),
    }
}

/// The newest whose every right the kernel knows. Nothing is restricted by asking.
fn landlock_abi() -> i64 {
    let known = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];
    let works = |abi: ABI| {
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let rules = rules.handle_access(AccessFs::from_all(abi));
        let scopes = Scope::from_all(abi);
        let rules = if scopes.is_empty() { rules } else { rules.and_then(|rules| rules.scope(scopes)) };
        rules.and_then(Ruleset::create).is_ok()
    };
    known.into_iter().take_while(|abi| works(*abi)).last().map_or(0, |abi| abi as i64)
}

fn missing_namespaces() -> Vec<String> {
    let wanted = ["mnt", "pid", "ipc", "uts", "net"];
    wanted
        .iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .map(|name| (*name).to_owned())
        .collect()
}

/// Of what sandboxes are made with.
fn missing_capabilities() -> Vec<String> {
    let wanted = [
        (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
        (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
        (CapabilitySet::SETPCAP, "SETPCAP"),
        (CapabilitySet::SETUID, "SETUID"),
        (CapabilitySet::SETGID, "SETGID"),
        (CapabilitySet::SYS_PTRACE, "SYS_PTRACE"),
        (CapabilitySet::SYS_RESOURCE, "SYS_RESOURCE"),
    ];
    let effective = rustix::thread::capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    wanted.iter().filter(|(set, _)| !effective.contains(*set)).map(|(_, name)| (*name).to_owned()).collect()
}

/// Of the nearest directory that is there.
fn free(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|dir| dir.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn run_dir_error(dir: &Path) -> Option<String> {
    let there = dir.ancestors().find(|dir| dir.exists())?;
    tempfile::tempfile_in(there).err().map(|error| format!("{}: {error}", there.display()))
}

fn unreachable(name: &str) -> Option<String> {
    let host = match name {
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    let with_port = if host.rsplit_once(':').is_some() { host.to_owned() } else { format!("{host}:443") };
    let addresses = match with_port.to_socket_addrs() {
        Err(error) => {
            return Some(format!("its name is not found: {error}; is there a DNS server, or a proxy to set?"));
        }
        Ok(addresses) => addresses,
    };
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, ANSWERS_WITHIN) {
            Ok(_) => return None,
            Err(error) => last = format!("{address}: {error}; is there a firewall, or a proxy to set?"),
        }
    }
    Some(last)
}
