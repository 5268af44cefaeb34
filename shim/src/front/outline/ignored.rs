//! Fields that nobody else reads: refused by name where a container without them is not what was asked for, else told in
//! the log, so that nobody has to wonder.

use std::path::Path;

use oci_spec::runtime::{Linux, Process, Spec};

use super::{MountOutline, OutlineError};

/// Values of `linux.rootfsPropagation`. It says where mounts made in the container appear: a guest makes none.
const PROPAGATIONS: [&str; 8] =
    ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];

/// Where the interfaces of the kernel would be, none of which a container has.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Without these the container would be another one than its configuration says.
pub(super) fn refuse(spec: &Spec, mounts: &[MountOutline]) -> Result<(), OutlineError> {
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    let table = [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|all| !all.is_empty())),
        ("linux.timeOffsets", linux.time_offsets().as_ref().is_some_and(|all| !all.is_empty())),
        ("linux.uidMappings", linux.uid_mappings().as_ref().is_some_and(|all| !all.is_empty())),
        ("linux.gidMappings", linux.gid_mappings().as_ref().is_some_and(|all| !all.is_empty())),
    ];
    if let Some((field, _)) = table.into_iter().find(|(_, is_set)| *is_set) {
        return Err(OutlineError::Unsupported(field));
    }
    if let Some(value) = linux.rootfs_propagation().as_deref().filter(|value| !value.is_empty())
        && !PROPAGATIONS.contains(&value)
    {
        return Err(OutlineError::value("linux.rootfsPropagation", value, "is no propagation"));
    }
    hidden(linux, mounts)
}

/// The same for a process, a container's first or an exec.
pub(super) fn refuse_in(process: &Process) -> Result<(), OutlineError> {
    let table = [
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
        ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ];
    match table.into_iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(OutlineError::Unsupported(field)),
        None => Ok(()),
    }
}

/// These change nothing that a guest can see through WASI.
pub(super) fn of(spec: &Spec) -> Vec<&'static str> {
    let linux = |is_set: fn(&Linux) -> bool| spec.linux().as_ref().is_some_and(is_set);
    let table = [
        // A guest has no devices at all: every mount is `nodev`.
        ("linux.devices", linux(|linux| linux.devices().as_ref().is_some_and(|all| !all.is_empty()))),
        ("linux.maskedPaths", linux(|linux| linux.masked_paths().as_ref().is_some_and(|all| !all.is_empty()))),
        ("linux.readonlyPaths", linux(|linux| linux.readonly_paths().as_ref().is_some_and(|all| !all.is_empty()))),
        ("linux.rootfsPropagation", linux(|linux| linux.rootfs_propagation().is_some())),
    ];
    table.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
}

/// `maskedPaths` and `readonlyPaths` name files of the kernel's, which are not there to be hidden. Anything else would be
/// left open, so it is refused.
fn hidden(linux: &Linux, mounts: &[MountOutline]) -> Result<(), OutlineError> {
    let covered = |path: &Path| {
        let mut places = mounts.iter().map(|mount| mount.destination.as_path());
        places.any(|place| path.starts_with(place) || place.starts_with(path))
    };
    let lists = [("linux.maskedPaths", linux.masked_paths()), ("linux.readonlyPaths", linux.readonly_paths())];
    for (field, list) in lists {
        for text in list.iter().flatten() {
            let path = Path::new(text);
            let is_kernels = KERNELS.iter().any(|kernels| path.starts_with(kernels));
            let upwards = path.components().any(|part| part == std::path::Component::ParentDir);
            if !is_kernels || upwards || covered(path) {
                return Err(OutlineError::value(field, text, "is no file of the kernel's, and would not be hidden"));
            }
        }
    }
    Ok(())
}
