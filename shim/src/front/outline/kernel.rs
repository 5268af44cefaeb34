//! `domainname` and `linux.sysctl`: what of the kernel's settings belongs to a container's own namespaces.

use std::collections::BTreeMap;

use oci_spec::runtime::Spec;

use super::OutlineError;
use super::namespaces::{Entry, NamespacesOutline};

/// Of the ipc namespace, beside all below `fs/mqueue`.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Set in a new UTS namespace; another's or the host's is not ours to change.
pub(super) fn domainname(spec: &Spec, namespaces: &NamespacesOutline) -> Option<String> {
    spec.domainname().clone().filter(|name| !name.is_empty() && namespaces.uts == Entry::New)
}

/// Path below `/proc/sys` and value. What is the whole host's is refused by name.
pub(super) fn sysctls(spec: &Spec, namespaces: &NamespacesOutline) -> Result<BTreeMap<String, String>, OutlineError> {
    let all = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let decide = |(key, value): (&String, &String)| {
        let wrong = |reason| OutlineError::value("linux.sysctl", key, reason);
        let path = path(key).ok_or_else(|| wrong("is no name of a setting"))?;
        let namespace = namespace_of(&path, namespaces).ok_or_else(|| wrong("is a setting of the whole host"))?;
        match namespace {
            Entry::Host => Err(wrong("needs a namespace of the container's own")),
            Entry::New | Entry::Join(_) => Ok((path, value.clone())),
        }
    };
    all.into_iter().flatten().map(decide).collect()
}

/// As `sysctl(8)` reads a name: the first of `.` and `/` parts the words, the other one is part of them.
fn path(key: &str) -> Option<String> {
    let path = match key.find(['.', '/']).map(|at| &key[at..=at]) {
        Some(".") => key
            .chars()
            .map(|char| {
                if char == '.' {
                    '/'
                } else if char == '/' {
                    '.'
                } else {
                    char
                }
            })
            .collect(),
        _ => key.to_owned(),
    };
    let is_word = |word: &str| !matches!(word, "" | "." | "..") && !word.contains('\0');
    path.split('/').all(is_word).then_some(path)
}

/// Of which of the container's namespaces it is.
pub(crate) fn namespace_of<'a>(path: &str, namespaces: &'a NamespacesOutline) -> Option<&'a Entry> {
    let (first, rest) = path.split_once('/')?;
    match (first, rest) {
        ("net", _) => Some(&namespaces.network),
        ("kernel", "hostname" | "domainname") => Some(&namespaces.uts),
        ("kernel", name) if IPC.contains(&name) => Some(&namespaces.ipc),
        ("fs", name) if name.starts_with("mqueue/") => Some(&namespaces.ipc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sysctl(key: &str, namespaces: &NamespacesOutline) -> Result<String, String> {
        let spec = json!({"ociVersion": "1.2.0", "linux": {"sysctl": {key: "1"}}});
        let spec = serde_json::from_value(spec).expect("spec");
        let all = sysctls(&spec, namespaces).map_err(|error| error.to_string())?;
        Ok(all.into_keys().next().expect("one"))
    }

    #[test]
    fn a_setting_of_an_own_namespace_is_made_and_any_other_refused_by_name() {
        let own = NamespacesOutline {
            network: Entry::Join("/run/netns/pod".into()),
            uts: Entry::New,
            ipc: Entry::New,
            ..NamespacesOutline::default()
        };
        let host = NamespacesOutline::default();
        for (key, path) in [
            ("net.ipv4.ip_unprivileged_port_start", "net/ipv4/ip_unprivileged_port_start"),
            ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("kernel.domainname", "kernel/domainname"),
        ] {
            assert_eq!(sysctl(key, &own), Ok(path.into()));
            let refused = format!("config.json: linux.sysctl: {key:?} needs a namespace of the container's own");
            assert_eq!(sysctl(key, &host), Err(refused));
        }
        for key in ["vm.swappiness", "kernel.panic", "kernel.shm", "fs.file-max", "net", "fs.mqueue"] {
            let refused = format!("config.json: linux.sysctl: {key:?} is a setting of the whole host");
            assert_eq!(sysctl(key, &own), Err(refused));
        }
        for key in ["", "net/../kernel/panic", "net..ipv4", "net.ipv4.", "../x", "net/\0"] {
            let error = sysctl(key, &own).expect_err(key);
            assert!(error.ends_with("is no name of a setting"), "{error}");
        }
    }
}
