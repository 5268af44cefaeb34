//! Who the process is to the kernel: user, groups, capabilities, labels (kubelet: `kuberuntime/security_context.go`).

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SELinuxOptions};
use oci_spec::runtime::{LinuxCapabilities, User};

use super::{Request, SpecError, capabilities};
use crate::events::pod_text;

pub(super) struct Identity {
    pub(super) user: User,
    pub(super) capabilities: LinuxCapabilities,
    pub(super) apparmor_profile: Option<String>,
    pub(super) selinux_label: Option<String>,
}

pub(super) fn identity(request: &Request<'_>, spec: &PodSpec) -> Result<Identity, SpecError> {
    let pod = spec.security_context.as_ref();
    let own = request.container.security_context.as_ref();
    let user = user(request, spec)?;
    let asked = own.and_then(|context| context.capabilities.as_ref());
    let list = |names: Option<&Vec<String>>| names.cloned().unwrap_or_default();
    let (add, drop) =
        (list(asked.and_then(|asked| asked.add.as_ref())), list(asked.and_then(|asked| asked.drop.as_ref())));
    let capabilities = capabilities(&add, &drop, user.uid())?;
    let apparmor = own.and_then(|c| c.app_armor_profile.as_ref()).or(pod.and_then(|c| c.app_armor_profile.as_ref()));
    let selinux = own.and_then(|c| c.se_linux_options.as_ref()).or(pod.and_then(|c| c.se_linux_options.as_ref()));
    Ok(Identity {
        user,
        capabilities,
        apparmor_profile: apparmor.and_then(localhost_profile),
        selinux_label: selinux.map(label),
    })
}

/// `runAsUser` and `runAsGroup`, the container's over the pod's, else the image's; `fsGroup` and `supplementalGroups`
/// beside them.
fn user(request: &Request<'_>, spec: &PodSpec) -> Result<User, SpecError> {
    let pod = spec.security_context.as_ref();
    let own = request.container.security_context.as_ref();
    let run_as_user = own.and_then(|c| c.run_as_user).or(pod.and_then(|c| c.run_as_user));
    let run_as_group = own.and_then(|c| c.run_as_group).or(pod.and_then(|c| c.run_as_group));
    let non_root = own.and_then(|c| c.run_as_non_root).or(pod.and_then(|c| c.run_as_non_root)) == Some(true);
    let image = ImageUser::of(&request.image.user);
    if non_root {
        verify_non_root(request, run_as_user, &image)?;
    }
    let (uid, gid) = match run_as_user {
        Some(uid) => (id("runAsUser", uid)?, request.image.gid_of(&uid.to_string()).unwrap_or(0)),
        None => image.resolve(request)?,
    };
    let gid = run_as_group.map_or(Ok(gid), |gid| id("runAsGroup", gid))?;
    let mut additional = Vec::new();
    if let Some(group) = pod.and_then(|context| context.fs_group) {
        additional.push(id("fsGroup", group)?);
    }
    for group in pod.and_then(|context| context.supplemental_groups.as_ref()).into_iter().flatten() {
        additional.push(id("supplementalGroups", *group)?);
    }
    let mut seen = HashSet::new();
    additional.retain(|group| seen.insert(*group));
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid).set_additional_gids((!additional.is_empty()).then_some(additional));
    Ok(user)
}

fn verify_non_root(request: &Request<'_>, run_as_user: Option<i64>, image: &ImageUser<'_>) -> Result<(), SpecError> {
    let (pod, container) = (pod_text(request.pod), request.container.name.clone());
    match (run_as_user, image.user.parse::<i64>()) {
        (Some(0), _) => Err(SpecError::RunAsUserIsRoot { pod, container }),
        (Some(_), _) => Ok(()),
        (None, _) if image.user.is_empty() => Err(SpecError::ImageRunsAsRoot { pod, container }),
        (None, Ok(0)) => Err(SpecError::ImageRunsAsRoot { pod, container }),
        (None, Ok(_)) => Ok(()),
        (None, Err(_)) => Err(SpecError::NonNumericUser { user: image.user.to_owned(), pod, container }),
    }
}

/// `user[:group]` of an image.
struct ImageUser<'a> {
    user: &'a str,
    group: &'a str,
}

impl<'a> ImageUser<'a> {
    fn of(text: &'a str) -> Self {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        Self { user, group }
    }

    /// Numbers as they are; a name by the image's `/etc/passwd`.
    fn resolve(&self, request: &Request<'_>) -> Result<(u32, u32), SpecError> {
        if self.user.is_empty() {
            return Ok((0, 0));
        }
        let unknown = || SpecError::UnknownUser { user: request.image.user.clone() };
        let entry = request.image.passwd_entry(self.user);
        let uid = match (self.user.parse(), entry) {
            (Ok(uid), _) => uid,
            (Err(_), Some((uid, _))) => uid,
            (Err(_), None) => return Err(unknown()),
        };
        let gid = match self.group {
            "" => entry.map_or(0, |(_, gid)| gid),
            group => group.parse().map_err(|_| unknown())?,
        };
        Ok((uid, gid))
    }
}

impl super::ImageConfig {
    /// uid and gid of a line of `/etc/passwd`, by name or number.
    fn passwd_entry(&self, user: &str) -> Option<(u32, u32)> {
        self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?);
            let gid = fields.next()?;
            (name == user || uid == user).then(|| Some((uid.parse().ok()?, gid.parse().ok()?)))?
        })
    }

    fn gid_of(&self, user: &str) -> Option<u32> {
        self.passwd_entry(user).map(|(_, gid)| gid)
    }
}

fn id(field: &'static str, value: i64) -> Result<u32, SpecError> {
    // All ones means "no change" to the kernel.
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or(SpecError::Id { field, value })
}

fn localhost_profile(profile: &AppArmorProfile) -> Option<String> {
    // RuntimeDefault and Unconfined: the process keeps the node's own confinement.
    profile.localhost_profile.clone().filter(|_| profile.type_ == "Localhost")
}

fn label(options: &SELinuxOptions) -> String {
    let part = |value: &Option<String>, default: &str| {
        value.clone().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let user = part(&options.user, "system_u");
    let role = part(&options.role, "system_r");
    let kind = part(&options.type_, "container_t");
    let level = part(&options.level, "s0");
    format!("{user}:{role}:{kind}:{level}")
}
