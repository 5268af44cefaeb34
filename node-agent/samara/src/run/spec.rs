//! From flags and image to the OCI runtime configuration. Pure: what it needs of the machine comes in.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use oci_spec::runtime::{
    LinuxBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder,
    LinuxResourcesBuilder, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use samara_core::quantity::Amount;
use samara_shim_client::annotations;

use super::RunArgs;
use super::program::Program;

/// What is bind-mounted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    host: PathBuf,
    guest: PathBuf,
    read_only: bool,
}

/// The bundle's `config.json`.
pub(super) fn spec(args: &RunArgs, program: &Program, id: &str) -> Result<Spec> {
    let (uid, gid) = user(args.user.as_deref().or(program.user()))?;
    let mut env = program.env().to_vec();
    for wanted in &args.env {
        set(&mut env, &variable(wanted, |name| std::env::var(name).ok())?);
    }
    let process = ProcessBuilder::default()
        .args(arguments(args, program)?)
        .env(env)
        .cwd(args.workdir.clone().or_else(|| program.working_dir().map(Into::into)).unwrap_or_else(|| "/".into()))
        .user(UserBuilder::default().uid(uid).gid(gid).build()?)
        .no_new_privileges(true)
        .build()?;
    let mounts = args
        .volume
        .iter()
        .map(|text| {
            let volume = volume(text)?;
            let mut options = vec!["rbind".to_owned()];
            options.push(if volume.read_only { "ro" } else { "rw" }.into());
            let host = std::path::absolute(&volume.host)?;
            Ok(MountBuilder::default().source(host).destination(volume.guest).typ("bind").options(options).build()?)
        })
        .collect::<Result<Vec<_>>>()?;

    let mut annotations_ =
        std::collections::HashMap::from([(annotations::HTTP_PORT.to_owned(), args.port.to_string())]);
    annotations_.extend(program.annotations());
    Ok(SpecBuilder::default()
        .version("1.2.0")
        .root(RootBuilder::default().path("rootfs").readonly(args.read_only).build()?)
        .hostname(&id[..12])
        .process(process)
        .mounts(mounts)
        .annotations(annotations_)
        .linux(
            LinuxBuilder::default()
                .namespaces(namespaces()?)
                .cgroups_path(format!("/samara/{id}"))
                .resources(resources(args)?)
                .build()?,
        )
        .build()?)
}

/// Its own of everything but the network, which is the host's.
fn namespaces() -> Result<Vec<oci_spec::runtime::LinuxNamespace>> {
    [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount, LinuxNamespaceType::Ipc, LinuxNamespaceType::Uts]
        .into_iter()
        .map(|kind| Ok(LinuxNamespaceBuilder::default().typ(kind).build()?))
        .collect()
}

fn resources(args: &RunArgs) -> Result<oci_spec::runtime::LinuxResources> {
    let mut resources = LinuxResourcesBuilder::default().pids(LinuxPidsBuilder::default().limit(1024).build()?);
    if let Some(text) = &args.memory {
        let bytes = Amount::parse(text).with_context(|| format!("--memory {text}"))?.value();
        if bytes <= 0 {
            bail!("--memory {text}: must be more than nothing");
        }
        resources = resources.memory(LinuxMemoryBuilder::default().limit(bytes).build()?);
    }
    if let Some(cpus) = args.cpus {
        if cpus.is_nan() || cpus < 0.01 {
            bail!("--cpus {cpus}: must be 0.01 or more");
        }
        let period = 100_000;
        let quota = (cpus * period as f64).round() as i64;
        resources = resources.cpu(LinuxCpuBuilder::default().quota(quota).period(period as u64).build()?);
    }
    Ok(resources.build()?)
}

/// As docker does: flags after the image replace its command; `--entrypoint` replaces the entrypoint and drops the command.
fn arguments(args: &RunArgs, program: &Program) -> Result<Vec<String>> {
    let mut all: Vec<String> = match &args.entrypoint {
        Some(entrypoint) => vec![entrypoint.clone()],
        None => program.entrypoint().to_vec(),
    };
    if !args.args.is_empty() {
        all.extend(args.args.iter().cloned());
    } else if args.entrypoint.is_none() {
        all.extend(program.cmd().iter().cloned());
    }
    if all.is_empty() {
        bail!("the image names no program: give one after it, or --entrypoint");
    }
    Ok(all)
}

/// `KEY=VALUE`, or `KEY` with this process's value.
fn variable(text: &str, here: impl Fn(&str) -> Option<String>) -> Result<String> {
    match text.split_once('=') {
        Some(("", _)) => bail!("--env {text}: the name is empty"),
        Some(_) => Ok(text.to_owned()),
        None => {
            let value =
                here(text).with_context(|| format!("--env {text}: it has no value here; write {text}=VALUE"))?;
            Ok(format!("{text}={value}"))
        }
    }
}

/// Replaces the variable of the same name.
fn set(env: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next().unwrap_or_default();
    env.retain(|other| other.split('=').next() != Some(name));
    env.push(variable.to_owned());
}

/// `HOST:GUEST[:ro|:rw]`.
fn volume(text: &str) -> Result<Volume> {
    let mut parts = text.split(':');
    let (host, guest, mode, more) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(host), Some(guest), None) = (host, guest, more) else {
        bail!("--volume {text}: write HOST:GUEST or HOST:GUEST:ro");
    };
    let read_only = match mode {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => bail!("--volume {text}: {other} is neither ro nor rw"),
    };
    if host.is_empty() || !guest.starts_with('/') {
        bail!("--volume {text}: the guest's path must be absolute and the host's must not be empty");
    }
    Ok(Volume { host: host.into(), guest: guest.into(), read_only })
}

/// `UID[:GID]`; names need the image's `/etc/passwd`, which `--user` does not read.
fn user(text: Option<&str>) -> Result<(u32, u32)> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok((0, 0)) };
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let number = |part: &str| part.parse().with_context(|| format!("user {text}: {part} is not a number"));
    Ok((number(uid)?, number(gid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_given_or_taken_from_here() {
        let here = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        assert_eq!(variable("A=1", here).unwrap(), "A=1");
        assert_eq!(variable("A=", here).unwrap(), "A=");
        assert_eq!(variable("HOME", here).unwrap(), "HOME=/root");
        assert!(variable("NONE", here).unwrap_err().to_string().contains("NONE=VALUE"));
        assert!(variable("=x", here).is_err());
    }

    #[test]
    fn the_last_variable_of_a_name_wins() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set(&mut env, "A=3");
        assert_eq!(env, ["AB=2", "A=3"]);
    }

    #[test]
    fn a_volume_is_host_guest_and_mode() {
        let made = |host: &str, guest: &str, read_only| Volume { host: host.into(), guest: guest.into(), read_only };
        assert_eq!(volume("a:/b").unwrap(), made("a", "/b", false));
        assert_eq!(volume("/a:/b:ro").unwrap(), made("/a", "/b", true));
        for bad in ["", "a", "a:b", ":/b", "a:/b:rx", "a:/b:ro:more"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_user_is_numbers() {
        assert_eq!(user(None).unwrap(), (0, 0));
        assert_eq!(user(Some("5")).unwrap(), (5, 0));
        assert_eq!(user(Some("5:6")).unwrap(), (5, 6));
        assert!(user(Some("nobody")).is_err());
    }
}
