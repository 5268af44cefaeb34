//! Who the process is to the kernel.

use oci_spec::runtime::{Process, Spec};

use super::OutlineError;
use crate::plan::Identity;

pub(super) fn of(spec: &Spec, process: &Process) -> Result<Identity, OutlineError> {
    let linux = spec.linux().as_ref();
    if let Some(name) = process.user().username().as_deref().filter(|name| !name.is_empty()) {
        return Err(OutlineError::value("process.user.username", name, "is for Windows"));
    }
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Ok(Identity {
        uid: process.user().uid(),
        gid: process.user().gid(),
        additional_gids: process.user().additional_gids().clone().unwrap_or_default(),
        umask: process.user().umask(),
        capabilities: process.capabilities().clone(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        rlimits: process.rlimits().clone().unwrap_or_default(),
        oom_score_adj: process.oom_score_adj(),
        seccomp: linux.and_then(|linux| linux.seccomp().clone()),
        apparmor_profile: text(process.apparmor_profile()),
        selinux_label: text(process.selinux_label()),
    })
}
