//! What this machine must offer, found out before anything is started.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Result, bail};

/// Capabilities which the harness cannot do without: bit in `CapEff`, name.
const NEEDED: [(u32, &str); 4] =
    [(5, "CAP_KILL"), (12, "CAP_NET_ADMIN"), (19, "CAP_SYS_PTRACE"), (21, "CAP_SYS_ADMIN")];

/// Programs of distribution packages: name, package.
const PROGRAMS: [(&str, &str); 2] = [("ip", "iproute2"), ("mount", "mount")];

/// What was found; separate from the looking, so that the judgement can be tested.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Effective user id.
    pub euid: u32,
    /// `CapEff` of `/proc/self/status`.
    pub capabilities: u64,
    /// Programs of `PROGRAMS` which are not in `PATH`.
    pub missing_programs: Vec<(&'static str, &'static str)>,
    /// Control-plane programs which are not built.
    pub missing_tools: Vec<String>,
    /// Whether the cgroup controllers `memory`, `cpu` and `pids` can be used.
    pub cgroups: bool,
}

/// Says in one line what is missing and what to do; `Ok` if nothing is.
pub fn check(tools: &Path, needed_tools: &[&str]) -> Result<()> {
    judge(&look(tools, needed_tools)?)
}

fn look(tools: &Path, needed_tools: &[&str]) -> Result<Facts> {
    let status = fs::read_to_string("/proc/self/status")?;
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    Ok(Facts {
        euid: rustix::process::geteuid().as_raw(),
        capabilities,
        missing_programs: PROGRAMS.into_iter().filter(|(name, _)| in_path(name).is_none()).collect(),
        missing_tools: needed_tools.iter().filter(|name| !tools.join(name).exists()).map(ToString::to_string).collect(),
        cgroups: crate::site::cgroup::controllers_usable(),
    })
}

fn judge(facts: &Facts) -> Result<()> {
    if facts.euid != 0 {
        bail!("not root: namespaces and cgroups need it; run it through `make`, which asks for sudo once");
    }
    if let Some((_, name)) = NEEDED.iter().find(|(bit, _)| facts.capabilities & (1 << bit) == 0) {
        bail!(
            "{name} is missing: this is an unprivileged container; use a virtual machine or `docker run --privileged`"
        );
    }
    if let Some((name, package)) = facts.missing_programs.first() {
        bail!("`{name}` is missing: run `make setup` (it installs the distribution's {package})");
    }
    if let Some(name) = facts.missing_tools.first() {
        bail!("{name} is not built: run `make tools`");
    }
    if !facts.cgroups {
        bail!(
            "no cgroup controllers (memory, cpu, pids) under /sys/fs/cgroup: mount them, or start the container with `--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw`"
        );
    }
    Ok(())
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Facts {
        Facts { euid: 0, capabilities: u64::MAX, missing_programs: vec![], missing_tools: vec![], cgroups: true }
    }

    fn refusal(facts: Facts) -> String {
        judge(&facts).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_machine_with_everything_is_accepted() {
        judge(&able()).expect("accepted");
    }

    /// What `tests/host.sh`, which make asks before it builds, says where something is taken away.
    fn script(without: &[&str]) -> String {
        let script = crate::cluster::workspace().join("tests/host.sh");
        let mut command = std::process::Command::new(without[0]);
        let output = command.args(&without[1..]).arg(script).output().expect("run it");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    #[test]
    fn make_says_the_same_before_it_builds() {
        let hidden = "mount -t tmpfs tmpfs /sys/fs/cgroup && exec \"$0\"";
        for (without, facts) in [
            (&["setpriv", "--bounding-set", "-net_admin"][..], Facts { capabilities: !(1 << 12), ..able() }),
            (&["setpriv", "--bounding-set", "-sys_admin"], Facts { capabilities: !(1 << 21), ..able() }),
            (&["unshare", "--mount", "sh", "-c", hidden], Facts { cgroups: false, ..able() }),
        ] {
            assert_eq!(script(without), refusal(facts) + "\n");
        }
    }

    #[test]
    fn every_refusal_is_one_line_that_says_what_to_do() {
        for (facts, names, advice) in [
            (Facts { euid: 1000, ..able() }, "root", "make"),
            (Facts { capabilities: !(1 << 12), ..able() }, "CAP_NET_ADMIN", "--privileged"),
            (Facts { missing_programs: vec![("ip", "iproute2")], ..able() }, "`ip`", "make setup"),
            (Facts { missing_tools: vec!["etcd".into()], ..able() }, "etcd", "make tools"),
            (Facts { cgroups: false, ..able() }, "cgroup", "mount"),
        ] {
            let text = refusal(facts);
            assert!(text.contains(names) && text.contains(advice) && !text.contains('\n'), "{text}");
        }
    }
}
