//! Which capabilities a process has, of a pod or of the command line.

use std::collections::HashSet;
use std::str::FromStr;

use oci_spec::runtime::{Capability, LinuxCapabilities};

/// What containers have when they say nothing: containerd's list, without what only host code could use (a guest
/// makes no devices, raw sockets, identities or kernel audit records).
const DEFAULT: [Capability; 6] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
];

/// A name that is no capability's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability {0:?}")]
pub struct UnknownCapability(pub String);

/// The defaults, without what is dropped, with what is added; names as `NET_BIND_SERVICE` or `CAP_NET_BIND_SERVICE`, and
/// `ALL`. Only root has them in effect: without exec there is no way from the bounding set to the effective one.
pub fn capabilities(add: &[String], drop: &[String], uid: u32) -> Result<LinuxCapabilities, UnknownCapability> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set: HashSet<Capability> = HashSet::new();
    if add.iter().any(is_all) {
        set.extend(DEFAULT);
        set.extend(ALL.iter().filter_map(|name| Capability::from_str(name).ok()));
    } else if !drop.iter().any(is_all) {
        set.extend(DEFAULT);
    }
    for name in add.iter().filter(|name| !is_all(name)) {
        set.insert(capability(name)?);
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        set.remove(&capability(name)?);
    }
    let effective = if uid == 0 { set.clone() } else { HashSet::new() };
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set))
        .set_effective(Some(effective.clone()))
        .set_permitted(Some(effective))
        .set_inheritable(Some(HashSet::new()))
        .set_ambient(Some(HashSet::new()));
    Ok(capabilities)
}

fn capability(name: &str) -> Result<Capability, UnknownCapability> {
    let upper = name.to_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Capability::from_str(short).map_err(|_| UnknownCapability(name.to_owned()))
}

/// What `ALL` adds.
const ALL: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn bounding(add: &[&str], drop: &[&str]) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let sets = capabilities(&owned(add), &owned(drop), 0).unwrap();
        let mut names: Vec<_> = sets.bounding().iter().flatten().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_added_and_dropped_changes_the_defaults_and_all_is_everything_or_nothing() {
        let default = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"];
        assert_eq!(bounding(&[], &[]), default);
        assert_eq!(bounding(&[], &["CAP_KILL", "chown"]), ["DAC_OVERRIDE", "FOWNER", "FSETID", "NET_BIND_SERVICE"]);
        assert_eq!(bounding(&["net_bind_service"], &["all"]), ["NET_BIND_SERVICE"]);
        assert_eq!(bounding(&["ALL"], &["KILL"]).len(), 40);
        assert_eq!(bounding(&["ALL"], &[]).len(), 41);
    }

    #[test]
    fn only_root_has_them_in_effect() {
        let effective = |uid| capabilities(&[], &[], uid).unwrap().effective().iter().flatten().count();
        assert_eq!((effective(0), effective(1)), (6, 0));
        let unknown = capabilities(&["SYS_EVERYTHING".into()], &[], 0).unwrap_err();
        assert_eq!(unknown.to_string(), "unknown capability \"SYS_EVERYTHING\"");
    }
}
