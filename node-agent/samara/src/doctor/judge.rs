//! From facts to lines. Pure.

use super::{Facts, Finding, Verdict};
use crate::format::bytes;

/// Less than this is soon full.
const LITTLE: u64 = 1 << 30;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    use Verdict::{Fail, Ok, Warn};
    let line = |what: &str, verdict, found: String| Finding { what: what.into(), verdict, found };
    let none = |missing: &[String]| missing.is_empty();
    let mut lines = vec![
        line("kernel", Ok, facts.kernel.clone()),
        match facts.root {
            true => line("user", Ok, "root".into()),
            false => {
                line("user", Fail, "not root, and a sandbox needs namespaces and cgroups: run `sudo samara ...`".into())
            }
        },
        match &facts.cgroup {
            None => line("cgroups", Fail, "none is mounted: mount cgroup2 at /sys/fs/cgroup, as systemd does".into()),
            Some(version) if none(&facts.missing_controllers) => line("cgroups", Ok, version.clone()),
            Some(version) => {
                let missing = facts.missing_controllers.join(", ");
                line(
                    "cgroups",
                    Warn,
                    format!("{version}, without {missing}: such limits do not hold; enable them at boot"),
                )
            }
        },
        match none(&facts.missing_namespaces) {
            true => line("namespaces", Ok, "mnt, pid, ipc, uts, net".into()),
            false => {
                let missing = facts.missing_namespaces.join(", ");
                line("namespaces", Fail, format!("the kernel has no {missing}: it needs another configuration"))
            }
        },
        match none(&facts.missing_capabilities) {
            true => line("capabilities", Ok, "all that are needed".into()),
            false => {
                let missing = facts.missing_capabilities.join(", ");
                let verdict =
                    if facts.missing_capabilities.iter().any(|name| name == "SYS_ADMIN") { Fail } else { Warn };
                line("capabilities", verdict, format!("without {missing}: inside a container, run that one privileged"))
            }
        },
        match facts.seccomp {
            true => line("seccomp", Ok, "filters".into()),
            false => line("seccomp", Fail, "the kernel has none (CONFIG_SECCOMP_FILTER)".into()),
        },
        match facts.landlock {
            0 => line(
                "landlock",
                Warn,
                "none: guests are held by their root and seccomp alone; add landlock to lsm= at boot".into(),
            ),
            abi @ 1..6 => line(
                "landlock",
                Warn,
                format!("ABI {abi}: signals and abstract sockets are not scoped before 6 (Linux 6.12)"),
            ),
            abi => line("landlock", Ok, format!("ABI {abi}")),
        },
        match facts.overlay {
            true => line("overlay", Ok, "there".into()),
            false => {
                line("overlay", Warn, "none: images with a root file system do not run; `modprobe overlay`".into())
            }
        },
        match facts.ip_forward {
            true => line("ip forwarding", Ok, "on".into()),
            false => line(
                "ip forwarding",
                Warn,
                "off: `samara node` switches it on for its pods (net.ipv4.ip_forward)".into(),
            ),
        },
        match facts.free {
            None => line("disk", Warn, format!("{} cannot be looked at", facts.root_dir)),
            Some(free) if free < LITTLE => {
                let found = format!("{} free in {}: `samara system prune`", bytes(free), facts.root_dir);
                line("disk", Warn, found)
            }
            Some(free) => line("disk", Ok, format!("{} free in {}", bytes(free), facts.root_dir)),
        },
        match &facts.run_dir_error {
            None => line("run directory", Ok, "can be written".into()),
            Some(error) => line("run directory", Fail, format!("{error}: --run-dir names another")),
        },
    ];
    lines.extend(facts.registries.iter().map(|(name, error)| match error {
        None => line(&format!("registry {name}"), Ok, "answers".into()),
        Some(error) => line(&format!("registry {name}"), Warn, error.clone()),
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            root: true,
            kernel: "6.18".into(),
            cgroup: Some("v2".into()),
            landlock: 7,
            seccomp: true,
            overlay: true,
            ip_forward: true,
            free: Some(50 << 30),
            ..Facts::default()
        }
    }

    #[test]
    fn a_good_machine_is_ok_throughout() {
        assert!(judge(&good()).iter().all(|line| line.verdict == Verdict::Ok), "{:?}", judge(&good()));
    }

    #[test]
    fn each_want_is_one_line_that_says_what_to_do() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        use Verdict::{Fail, Warn};
        type Change<'a> = &'a dyn Fn(&mut Facts);
        let table: [(Change<'_>, Verdict, &str); 12] = [
            (&|facts| facts.root = false, Fail, "sudo samara"),
            (&|facts| facts.cgroup = None, Fail, "mount cgroup2"),
            (&|facts| facts.missing_controllers = words(&["memory"]), Warn, "without memory"),
            (&|facts| facts.missing_namespaces = words(&["pid"]), Fail, "no pid"),
            (&|facts| facts.missing_capabilities = words(&["SYS_RESOURCE"]), Warn, "SYS_RESOURCE"),
            (&|facts| facts.missing_capabilities = words(&["SYS_ADMIN"]), Fail, "privileged"),
            (&|facts| facts.landlock = 0, Warn, "lsm="),
            (&|facts| facts.landlock = 3, Warn, "ABI 3"),
            (&|facts| facts.overlay = false, Warn, "modprobe overlay"),
            (&|facts| facts.free = Some(5), Warn, "samara system prune"),
            (&|facts| facts.run_dir_error = Some("read-only".into()), Fail, "--run-dir"),
            (&|facts| facts.registries = vec![("a.example".into(), Some("no such name".into()))], Warn, "no such name"),
        ];
        for (change, verdict, says) in table {
            let mut facts = good();
            change(&mut facts);
            let wanting: Vec<_> = judge(&facts).into_iter().filter(|line| line.verdict != Verdict::Ok).collect();
            assert_eq!(wanting.len(), 1, "{says}: {wanting:?}");
            assert_eq!(wanting[0].verdict, verdict, "{says}");
            assert!(wanting[0].found.contains(says), "{says}: {wanting:?}");
        }
    }
}
