//! Decides what a container is to be: `config.json`, its annotations and the request become an [`Outline`], which says
//! what to open and how the opened things make a plan. Pure; [`crate::front::open`] does the opening.

mod cgroup;
mod guest;
mod hooks;
mod identity;
mod ignored;
mod kernel;
mod master;
mod mounts;
mod namespaces;
mod resolv;
mod root;
mod wasm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::Serialize;

use crate::plan::{Guest, Identity};
use samara_shim_client::client::{RootMount, Standard};
use samara_shim_client::output::{OutputError, OutputUri};

pub(crate) use cgroup::CgroupOutline;
pub(crate) use guest::{grace_period_seconds, memory_update, network_files};
pub(crate) use hooks::{HookOutline, HooksOutline, of as hooks};
pub(crate) use kernel::namespace_of;
pub(crate) use master::Master;
pub(crate) use mounts::{Attributes, MountOutline, MountSource, Propagation};
pub(crate) use namespaces::{Entry, NamespacesOutline};
pub(crate) use resolv::{parse_hosts, parse_resolv_conf};
pub(crate) use root::{Overlay, RootOutline};
pub(crate) use wasm::{Candidates, Wasm};

/// What is read from the host and not from the bundle; an argument, so that deciding stays pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Usable by a container without quota.
    pub(crate) cpus: u32,
    /// Who writes the bundles.
    pub(crate) master: Master,
}

/// A container, decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outline {
    pub(crate) root: RootOutline,
    pub(crate) read_only_root: bool,
    pub(crate) mounts: Vec<MountOutline>,
    pub(crate) namespaces: NamespacesOutline,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// Path below `/proc/sys` and value.
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) hooks: HooksOutline,
    pub(crate) cgroup: Option<CgroupOutline>,
    pub(crate) process: ProcessOutline,
    /// Fields that are set and have no meaning for a guest: told in the log.
    pub(crate) ignored: Vec<&'static str>,
}

/// What its first process and an exec have alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProcessOutline {
    pub(crate) identity: Identity,
    /// `hosts` and name servers are completed from the files that [`network_files`] names.
    pub(crate) guest: Guest,
    pub(crate) wasm: Wasm,
    pub(crate) stdio: StdioOutline,
}

/// Files 0, 1 and 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StdioOutline {
    pub(crate) stdin: Option<PathBuf>,
    #[serde(serialize_with = "as_text")]
    pub(crate) stdout: OutputUri,
    #[serde(serialize_with = "as_text")]
    pub(crate) stderr: OutputUri,
    pub(crate) terminal: bool,
}

/// Why no container can be made of this bundle. Each names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutlineError {
    #[error("config.json: {0} is missing")]
    Missing(&'static str),
    #[error("config.json: {field}: {value:?} {reason}")]
    Value { field: String, value: String, reason: &'static str },
    #[error("config.json: {0} is for the node agent's containers only")]
    Agents(&'static str),
    #[error("config.json: {0} is not supported")]
    Unsupported(&'static str),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("rootfs: {0}")]
    Rootfs(String),
}

impl OutlineError {
    fn value(field: impl Into<String>, value: impl Into<String>, reason: &'static str) -> Self {
        Self::Value { field: field.into(), value: value.into(), reason }
    }
}

impl Outline {
    /// A container's first process.
    pub(crate) fn of(
        spec: &Spec,
        bundle: &Path,
        rootfs: &[RootMount],
        standard: &Standard,
        host: &Host,
    ) -> Result<Self, OutlineError> {
        let process = spec.process().as_ref().ok_or(OutlineError::Missing("process"))?;
        master::check(spec, host.master)?;
        let namespaces = namespaces::of(spec)?;
        let mounts = mounts::of(spec)?;
        ignored::refuse(spec, &mounts)?;
        Ok(Self {
            root: root::of(spec, bundle, rootfs)?,
            read_only_root: spec.root().as_ref().and_then(|root| root.readonly()) == Some(true),
            mounts,
            // Another's or the host's name is not ours to change.
            hostname: spec.hostname().clone().filter(|name| !name.is_empty() && namespaces.uts == Entry::New),
            domainname: kernel::domainname(spec, &namespaces),
            sysctls: kernel::sysctls(spec, &namespaces)?,
            hooks: hooks::of(spec)?,
            namespaces,
            cgroup: cgroup::of(spec)?,
            process: ProcessOutline::of(spec, process, standard, host, wasm::first(spec, process)?)?,
            ignored: ignored::of(spec),
        })
    }
}

impl ProcessOutline {
    /// A further process in the container of `spec`.
    pub(crate) fn exec(spec: &Spec, process: &Process, standard: &Standard, host: &Host) -> Result<Self, OutlineError> {
        Self::of(spec, process, standard, host, wasm::further(process)?)
    }

    fn of(spec: &Spec, process: &Process, standard: &Standard, host: &Host, wasm: Wasm) -> Result<Self, OutlineError> {
        ignored::refuse_in(process)?;
        Ok(Self {
            identity: identity::of(spec, process)?,
            guest: guest::of(spec, process, host)?,
            wasm,
            stdio: StdioOutline::of(standard)?,
        })
    }
}

impl StdioOutline {
    pub(crate) fn of(standard: &Standard) -> Result<Self, OutlineError> {
        let stdin = match standard.stdin.parse()? {
            OutputUri::Null => None,
            OutputUri::Fifo(path) => Some(path),
            OutputUri::File(_) | OutputUri::Cri(_) | OutputUri::Binary(_) => {
                return Err(OutlineError::value("stdin", &standard.stdin, "is not a fifo"));
            }
        };
        Ok(Self {
            stdin,
            stdout: standard.stdout.parse()?,
            stderr: standard.stderr.parse()?,
            terminal: standard.terminal,
        })
    }
}

fn as_text<S: serde::Serializer>(uri: &OutputUri, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(uri)
}

#[cfg(test)]
mod tests;
