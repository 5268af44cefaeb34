//! What the guest sees: arguments, environment, limits, its identity on the network.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::runtime::{LinuxResources, Process, Spec};

use super::{Host, OutlineError};
use crate::plan::{Guest, GuestHttp, GuestNetwork};
use samara_shim_client::annotations as keys;

const HTTP_PORT: u16 = 8080;
const GRACE_PERIOD: u32 = 30;
const REQUEST_TIMEOUT: u32 = 60;
const DNS_PORT: u16 = 53;
const SWITCHES: &str = "samara.dev/guest.";

pub(super) fn of(spec: &Spec, process: &Process, host: &Host) -> Result<Guest, OutlineError> {
    let none = HashMap::new();
    let annotations = spec.annotations().as_ref().unwrap_or(&none);
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let env = process.env().clone().unwrap_or_default();
    let switches = annotations.iter().filter(|(key, _)| key.starts_with(SWITCHES));
    Ok(Guest {
        args: process.args().clone().unwrap_or_default(),
        cwd: process.cwd().to_string_lossy().into_owned(),
        memory_limit: resources.and_then(memory_limit),
        cpus: resources.and_then(cpus).unwrap_or(host.cpus).max(1),
        network: network(annotations)?,
        http: http(annotations, &env)?,
        switches: switches.map(|(key, value)| (key.clone(), value.clone())).collect(),
        env,
    })
}

/// How long a container may take to stop.
pub(crate) fn grace_period_seconds(spec: &Spec) -> Result<u32, OutlineError> {
    let annotations = spec.annotations().as_ref();
    let value = annotations.map(|all| number(all, keys::GRACE_PERIOD)).transpose()?;
    Ok(value.flatten().unwrap_or(GRACE_PERIOD))
}

/// Host files that say what `/etc/resolv.conf` and `/etc/hosts` of the container say.
pub(crate) fn network_files(spec: &Spec) -> (Option<PathBuf>, Option<PathBuf>) {
    let source = |destination: &str| {
        let mut mounts = spec.mounts().iter().flatten();
        let mount = mounts.find(|mount| mount.destination().as_os_str() == destination)?;
        mount.source().clone()
    };
    (source("/etc/resolv.conf"), source("/etc/hosts"))
}

fn network(annotations: &HashMap<String, String>) -> Result<GuestNetwork, OutlineError> {
    let servers = list::<IpAddr>(annotations, keys::DNS_SERVERS, "is not a list of addresses")?;
    let words = "is not a list of words";
    Ok(GuestNetwork {
        pod_ips: list(annotations, keys::POD_IPS, "is not a list of addresses")?,
        loopback: list(annotations, keys::POD_LOOPBACK, "is not an address")?.into_iter().next(),
        dns_servers: servers.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT)).collect(),
        dns_searches: list(annotations, keys::DNS_SEARCHES, words)?,
        dns_options: list(annotations, keys::DNS_OPTIONS, words)?,
        hosts: Vec::new(),
    })
}

fn http(annotations: &HashMap<String, String>, env: &[String]) -> Result<GuestHttp, OutlineError> {
    // The last of two wins, as in a process's environment that is built in order.
    let port = env.iter().filter_map(|pair| pair.strip_prefix("PORT=")).next_back();
    // PORT is the user's: what is not a port (a Service named "port" makes "tcp://...") does not count.
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let annotated = number(annotations, keys::HTTP_PORT)?.filter(|port| *port != 0);
    Ok(GuestHttp {
        port: port.or(annotated).unwrap_or(HTTP_PORT),
        request_timeout_seconds: number(annotations, keys::HTTP_REQUEST_TIMEOUT)?
            .filter(|seconds| *seconds != 0)
            .unwrap_or(REQUEST_TIMEOUT),
        grace_period_seconds: number(annotations, keys::GRACE_PERIOD)?.unwrap_or(GRACE_PERIOD),
        reuse: number(annotations, keys::GUEST_HTTP_REUSE)?.unwrap_or(1),
        max_body: number(annotations, keys::GUEST_HTTP_MAX_BODY)?,
        connections: number(annotations, keys::GUEST_HTTP_CONNECTIONS)?.unwrap_or(0),
    })
}

fn number<T: FromStr>(annotations: &HashMap<String, String>, key: &str) -> Result<Option<T>, OutlineError> {
    let value = annotations.get(key).filter(|value| !value.is_empty());
    let parse = |value: &String| {
        let number = value.parse().ok();
        number.ok_or_else(|| OutlineError::value(key, value, "is not a number in range"))
    };
    value.map(parse).transpose()
}

fn list<T: FromStr>(
    annotations: &HashMap<String, String>,
    key: &str,
    reason: &'static str,
) -> Result<Vec<T>, OutlineError> {
    let value = annotations.get(key).map(String::as_str).unwrap_or_default();
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| item.parse().map_err(|_| OutlineError::value(key, item, reason))).collect()
}

/// What an update makes of the guest's limit; `None` if it is not about memory.
pub(crate) fn memory_update(resources: &LinuxResources) -> Option<Option<u64>> {
    let limit = resources.memory().as_ref()?.limit().filter(|limit| *limit != 0)?;
    Some(u64::try_from(limit).ok())
}

/// The kernel's limit holds for the process, this one for the guest's memories in it: whichever is met first.
fn memory_limit(resources: &LinuxResources) -> Option<u64> {
    let limit = resources.memory().as_ref()?.limit()?;
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

fn cpus(resources: &LinuxResources) -> Option<u32> {
    let cpu = resources.cpu().as_ref()?;
    let quota = u64::try_from(cpu.quota()?).ok().filter(|quota| *quota > 0)?;
    let period = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
    u32::try_from(quota.div_ceil(period)).ok()
}
