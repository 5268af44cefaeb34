//! Fields that nobody reads: refused by name where a container without them is not what was asked for, else told in the
//! log, so that nobody has to wonder.

use oci_spec::runtime::{Hooks, Linux, Process, Spec};

use super::OutlineError;

/// Without these the container would be another one than its configuration says. A guest has no devices at all: every
/// mount is `nodev`.
pub(super) fn refuse(spec: &Spec, process: &Process) -> Result<(), OutlineError> {
    let linux = |is_set: fn(&Linux) -> bool| spec.linux().as_ref().is_some_and(is_set);
    let table = [
        ("hooks", spec.hooks().as_ref().is_some_and(has_any)),
        ("linux.devices", linux(|linux| linux.devices().as_ref().is_some_and(|all| !all.is_empty()))),
        ("linux.intelRdt", linux(|linux| linux.intel_rdt().is_some())),
        ("linux.personality", linux(|linux| linux.personality().is_some())),
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
    ];
    match table.into_iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(OutlineError::Unsupported(field)),
        None => Ok(()),
    }
}

/// These change nothing that a guest can see through WASI.
pub(super) fn of(spec: &Spec) -> Vec<&'static str> {
    let sysctl = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let table = [
        ("domainname", spec.domainname().is_some()),
        // containerd sets some in every pod sandbox.
        ("linux.sysctl", sysctl.is_some_and(|all| !all.is_empty())),
    ];
    table.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
}

fn has_any(hooks: &Hooks) -> bool {
    let before = [hooks.prestart(), hooks.create_runtime(), hooks.create_container(), hooks.start_container()];
    let after = [hooks.poststart(), hooks.poststop()];
    before.into_iter().chain(after).any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}
