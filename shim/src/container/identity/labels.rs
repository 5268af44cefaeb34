//! AppArmor profile and SELinux label: applied to this process, or refused by name.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

use crate::plan::Identity;

/// The name that stands for no profile.
const UNCONFINED: &str = "unconfined";

/// The host does not know the label.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    #[error("AppArmor profile {0:?} cannot be applied on this node")]
    AppArmor(String, #[source] io::Error),
    #[error("SELinux label {0:?} cannot be applied on this node")]
    SeLinux(String, #[source] io::Error),
}

/// Labels and where they go.
#[derive(Debug)]
pub(super) struct Opened {
    apparmor: Option<(String, OwnedFd)>,
    selinux: Option<(String, OwnedFd)>,
}

impl Opened {
    pub(super) fn new(identity: &Identity) -> Result<Self, LabelError> {
        let apparmor = match wanted(identity.apparmor_profile.as_ref()) {
            None => None,
            Some(profile) => {
                // The second name is that of kernels before 5.1, where it belongs to one module alone.
                let opened =
                    attribute("/proc/self/attr/apparmor/current").or_else(|_| attribute("/proc/self/attr/current"));
                match opened {
                    Ok(file) => Some((profile, file)),
                    Err(_) if profile == UNCONFINED => None,
                    Err(error) => return Err(LabelError::AppArmor(profile, error)),
                }
            }
        };
        let selinux = match wanted(identity.selinux_label.as_ref()) {
            None => None,
            Some(label) => match attribute("/proc/self/attr/current") {
                Ok(file) => Some((label, file)),
                Err(error) => return Err(LabelError::SeLinux(label, error)),
            },
        };
        Ok(Self { apparmor, selinux })
    }

    pub(super) fn apply(self) -> Result<(), LabelError> {
        if let Some((profile, file)) = self.apparmor {
            match rustix::io::write(&file, format!("changeprofile {profile}").as_bytes()) {
                Ok(_) => {}
                // Without AppArmor everything is unconfined already.
                Err(_) if profile == UNCONFINED => {}
                Err(errno) => return Err(LabelError::AppArmor(profile, errno.into())),
            }
        }
        if let Some((label, file)) = self.selinux {
            rustix::io::write(&file, label.as_bytes()).map_err(|errno| LabelError::SeLinux(label, errno.into()))?;
        }
        Ok(())
    }
}

fn wanted(name: Option<&String>) -> Option<String> {
    name.filter(|name| !name.is_empty()).cloned()
}

fn attribute(path: &str) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
}
