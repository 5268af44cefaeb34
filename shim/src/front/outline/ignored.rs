//! Fields that are read by nobody, so that nobody has to wonder.

use oci_spec::runtime::{Linux, Process, Spec};

pub(super) fn of(spec: &Spec, process: &Process) -> Vec<&'static str> {
    let linux = |is_set: fn(&Linux) -> bool| spec.linux().as_ref().is_some_and(is_set);
    let table = [
        ("hooks", spec.hooks().is_some()),
        ("domainname", spec.domainname().is_some()),
        ("linux.sysctl", linux(|linux| linux.sysctl().as_ref().is_some_and(|all| !all.is_empty()))),
        ("linux.devices", linux(|linux| linux.devices().as_ref().is_some_and(|all| !all.is_empty()))),
        ("linux.intelRdt", linux(|linux| linux.intel_rdt().is_some())),
        ("linux.personality", linux(|linux| linux.personality().is_some())),
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
    ];
    table.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
}
