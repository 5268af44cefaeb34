//! `fsGroup`: the group that a volume's files belong to (Kubernetes: `pkg/volume/volume_linux.go`).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::directory::DirectoryError;

/// Whom a volume's files belong to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    group: Option<u32>,
    access: Access,
    policy: Policy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Access {
    #[default]
    ReadOnly,
    ReadWrite,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Policy {
    #[default]
    Always,
    OnRootMismatch,
}

impl Ownership {
    /// For files that the agent writes and containers read.
    pub(super) fn read_only(pod: &Pod) -> Self {
        Self { group: group(pod), access: Access::ReadOnly, policy: Policy::Always }
    }

    /// For volumes that containers write.
    pub(super) fn read_write(pod: &Pod) -> Self {
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let policy = match context.and_then(|context| context.fs_group_change_policy.as_deref()) {
            Some("OnRootMismatch") => Policy::OnRootMismatch,
            Some(_) | None => Policy::Always,
        };
        Self { group: group(pod), access: Access::ReadWrite, policy }
    }

    /// Gives the volume and all in it to the group; nothing without one.
    pub(super) fn apply(self, path: &Path) -> Result<(), DirectoryError> {
        let Some(group) = self.group else { return Ok(()) };
        if self.policy == Policy::OnRootMismatch && self.fits(path, group) {
            return Ok(());
        }
        self.walk(path, group)
    }

    fn fits(self, path: &Path, group: u32) -> bool {
        let wanted = self.directory_bits();
        fs::metadata(path).is_ok_and(|root| root.gid() == group && root.mode() & wanted == wanted)
    }

    fn walk(self, path: &Path, group: u32) -> Result<(), DirectoryError> {
        let at = DirectoryError::at("give to the group", path);
        let metadata = fs::symlink_metadata(path).map_err(&at)?;
        lchown(path, None, Some(group)).map_err(&at)?;
        if metadata.is_symlink() {
            return Ok(());
        }
        let bits = if metadata.is_dir() { self.directory_bits() } else { self.file_bits() };
        fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o7777 | bits)).map_err(&at)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(path).map_err(&at)? {
                self.walk(&entry.map_err(&at)?.path(), group)?;
            }
        }
        Ok(())
    }

    fn file_bits(self) -> u32 {
        match self.access {
            Access::ReadOnly => 0o440,
            Access::ReadWrite => 0o660,
        }
    }

    /// With the set-group-id bit: what is made inside belongs to the group too.
    fn directory_bits(self) -> u32 {
        self.file_bits() | 0o2110
    }
}

fn group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec};

    use super::*;

    fn pod(group: Option<i64>, policy: Option<&str>) -> Pod {
        let context = PodSecurityContext {
            fs_group: group,
            fs_group_change_policy: policy.map(str::to_owned),
            ..PodSecurityContext::default()
        };
        Pod { spec: Some(PodSpec { security_context: Some(context), ..PodSpec::default() }), ..Pod::default() }
    }

    fn volume() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "x").unwrap();
        fs::set_permissions(dir.path().join("sub/file"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        dir
    }

    fn of(path: &Path) -> (u32, u32) {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.gid(), metadata.mode() & 0o7777)
    }

    #[test]
    fn everything_in_the_volume_belongs_to_the_group_and_nothing_behind_a_link() {
        let passwd = of(Path::new("/etc/passwd"));
        let dir = volume();
        Ownership::read_write(&pod(Some(4242), None)).apply(dir.path()).unwrap();
        assert_eq!(of(&dir.path().join("sub")), (4242, 0o2775));
        assert_eq!(of(&dir.path().join("sub/file")), (4242, 0o660));
        assert_eq!(of(&dir.path().join("link")).0, 4242);
        assert_eq!(of(Path::new("/etc/passwd")), passwd);
    }

    #[test]
    fn what_containers_only_read_is_not_made_writable() {
        let dir = volume();
        Ownership::read_only(&pod(Some(4242), None)).apply(dir.path()).unwrap();
        assert_eq!(of(&dir.path().join("sub/file")), (4242, 0o640));
    }

    #[test]
    fn a_fitting_root_is_enough_when_the_policy_says_so() {
        let dir = volume();
        let ownership = Ownership::read_write(&pod(Some(4242), Some("OnRootMismatch")));
        lchown(dir.path(), None, Some(4242)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).unwrap();
        ownership.apply(dir.path()).unwrap();
        assert_ne!(of(&dir.path().join("sub/file")).0, 4242);
        lchown(dir.path(), None, Some(1)).unwrap();
        ownership.apply(dir.path()).unwrap();
        assert_eq!(of(&dir.path().join("sub/file")).0, 4242);
    }

    #[test]
    fn without_a_group_nothing_is_touched() {
        let dir = volume();
        let before = of(&dir.path().join("sub/file"));
        Ownership::read_write(&pod(None, None)).apply(dir.path()).unwrap();
        assert_eq!(of(&dir.path().join("sub/file")), before);
    }
}
