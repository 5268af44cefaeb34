//! The OCI configuration of a planned container. Pure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, Mount as OciMount, MountBuilder, Process, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use samara_core::oci::capabilities;
use samara_shim_client::annotations;

use super::flag::mount::{Mount, Source};
use super::flag::{env, user};
use super::plan::Host;
use super::program::Program;
use super::wanted::Wanted;
use crate::container::{Network, Protocol, Record};
use crate::supervise::ports;

/// Port of a `wasi:http` guest that publishes none.
const HTTP_PORT: u16 = 8080;
const MOST_PROCESSES: i64 = 1024;
const CPU_PERIOD: u64 = 100_000;

/// The bundle's `config.json`.
pub(super) fn spec(record: &Record, wanted: &Wanted, program: &Program, host: &Host) -> Result<Spec> {
    let mounts = wanted.mounts.iter().map(|mount| oci_mount(mount, &host.volumes)).collect::<Result<Vec<_>>>()?;
    let hostname = wanted.hostname.clone().unwrap_or_else(|| record.short_id().to_owned());
    Ok(SpecBuilder::default()
        .version("1.2.0")
        .root(RootBuilder::default().path("rootfs").readonly(wanted.read_only).build()?)
        .hostname(&hostname)
        .process(process(record, wanted, program, &hostname)?)
        .mounts(mounts)
        .annotations(notes(record, wanted, program, host))
        .linux(
            LinuxBuilder::default()
                .namespaces(namespaces(wanted.network)?)
                .cgroups_path(format!("/samara/{}", record.id))
                .resources(resources(wanted)?)
                .build()?,
        )
        .build()?)
}

fn process(record: &Record, wanted: &Wanted, program: &Program, hostname: &str) -> Result<Process> {
    let (passwd, groups) = program.users();
    let (uid, gid) = user::resolve(wanted.user.as_deref().or(program.user()), passwd, groups)?;
    let mut variables = program.env().to_vec();
    env::set(&mut variables, &format!("HOSTNAME={hostname}"));
    if record.terminal {
        env::set(&mut variables, "TERM=xterm");
    }
    for variable in &wanted.env {
        env::set(&mut variables, variable);
    }
    let cwd = wanted.workdir.as_deref().or(program.working_dir()).unwrap_or("/");
    Ok(ProcessBuilder::default()
        .args(record.command.clone())
        .env(variables)
        .cwd(cwd)
        .terminal(record.terminal)
        .user(UserBuilder::default().uid(uid).gid(gid).build()?)
        .capabilities(capabilities(&[], &[], uid)?)
        .no_new_privileges(true)
        .build()?)
}

fn notes(record: &Record, wanted: &Wanted, program: &Program, host: &Host) -> HashMap<String, String> {
    let published = wanted.ports.iter().find(|port| port.protocol == Protocol::Tcp).map(|port| port.guest_port);
    let http_port = wanted.http_port.or(published).unwrap_or(HTTP_PORT);
    let mut notes = HashMap::from([
        (annotations::CONTAINER_NAME.to_owned(), record.name.clone()),
        (annotations::HTTP_PORT.to_owned(), http_port.to_string()),
        (annotations::GRACE_PERIOD.to_owned(), record.stop_timeout.to_string()),
    ]);
    if let Some(address) = record.address {
        notes.insert(annotations::POD_IPS.to_owned(), address.to_string());
        notes.insert(annotations::POD_LOOPBACK.to_owned(), ports::loopback(address).to_string());
        if !host.dns.is_empty() {
            let servers = host.dns.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            notes.insert(annotations::DNS_SERVERS.to_owned(), servers);
        }
    }
    notes.extend(program.annotations());
    notes
}

fn oci_mount(mount: &Mount, volumes: &Path) -> Result<OciMount> {
    let mode = if mount.read_only { "ro" } else { "rw" }.to_owned();
    let bind = |source: &Path| Ok((std::path::absolute(source)?, "bind", vec!["rbind".to_owned(), mode.clone()]));
    let (source, typ, options): (PathBuf, &str, Vec<String>) = match &mount.source {
        Source::Host(path) | Source::Made(path) => bind(path),
        Source::Volume(name) => bind(&volumes.join(name)),
        Source::Memory { size, mode: bits } => {
            let size = size.map(|size| format!("size={size}"));
            let bits = bits.map(|bits| format!("mode={bits:o}"));
            let options = ["nosuid".into(), "nodev".into(), mode].into_iter().chain(size).chain(bits).collect();
            anyhow::Ok(("tmpfs".into(), "tmpfs", options))
        }
    }?;
    Ok(MountBuilder::default().destination(&mount.target).source(source).typ(typ).options(options).build()?)
}

/// Its own of everything but the network, which it shares with the host unless it is to have none.
fn namespaces(network: Network) -> Result<Vec<LinuxNamespace>> {
    let own_network = match network {
        Network::None => Some(LinuxNamespaceType::Network),
        Network::Private | Network::Host => None,
    };
    [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount, LinuxNamespaceType::Ipc, LinuxNamespaceType::Uts]
        .into_iter()
        .chain(own_network)
        .map(|kind| Ok(LinuxNamespaceBuilder::default().typ(kind).build()?))
        .collect()
}

fn resources(wanted: &Wanted) -> Result<LinuxResources> {
    let mut resources =
        LinuxResourcesBuilder::default().pids(LinuxPidsBuilder::default().limit(MOST_PROCESSES).build()?);
    if let Some(bytes) = wanted.memory {
        resources = resources.memory(LinuxMemoryBuilder::default().limit(bytes).build()?);
    }
    if let Some(cpus) = wanted.cpus {
        let quota = (cpus * CPU_PERIOD as f64).round() as i64;
        resources = resources.cpu(LinuxCpuBuilder::default().quota(quota).period(CPU_PERIOD).build()?);
    }
    Ok(resources.build()?)
}
