//! `fsGroup`: the group that a volume's files belong to (Kubernetes: `pkg/volume/volume_linux.go`).
//!
//! Only what the agent itself makes is ever given away: what containers have written is theirs, and a walk over a tree that
//! they can change would follow them anywhere. So `fsGroupChangePolicy` has nothing to decide here: a volume that this node
//! has is empty, or read-only, when it is given.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::directory::DirectoryError;

/// What the group may do with a file that the agent writes.
const FILE_BITS: u32 = 0o440;
/// With the set-group-id bit: what is made inside belongs to the group too.
const DIRECTORY_BITS: u32 = 0o2550;

/// Whom a volume's files belong to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    group: Option<u32>,
}

impl Ownership {
    pub(super) const fn new(group: Option<u32>) -> Self {
        Self { group }
    }

    /// As the pod wants it.
    pub(super) fn of(pod: &Pod) -> Self {
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        Self::new(context.and_then(|context| u32::try_from(context.fs_group?).ok()))
    }

    pub(super) fn group(self) -> Option<u32> {
        self.group
    }

    /// Of a directory that containers write.
    pub(super) fn mode_of_empty_directory(self) -> u32 {
        if self.group.is_some() { 0o2777 } else { 0o777 }
    }

    /// Lets the group read a tree that the agent has written and containers cannot change; nothing without a group.
    pub(super) fn apply(self, path: &Path) -> Result<(), DirectoryError> {
        match self.group {
            Some(group) => walk(path, group),
            None => Ok(()),
        }
    }
}

fn walk(path: &Path, group: u32) -> Result<(), DirectoryError> {
    let at = DirectoryError::at("give to the group", path);
    let metadata = fs::symlink_metadata(path).map_err(&at)?;
    lchown(path, None, Some(group)).map_err(&at)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let bits = if metadata.is_dir() { DIRECTORY_BITS } else { FILE_BITS };
    fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o7777 | bits)).map_err(&at)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(&at)? {
            walk(&entry.map_err(&at)?.path(), group)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec};

    use super::*;

    fn pod(group: Option<i64>) -> Pod {
        let context = PodSecurityContext { fs_group: group, ..PodSecurityContext::default() };
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
    fn the_group_reads_everything_in_the_volume_and_nothing_behind_a_link() {
        let passwd = of(Path::new("/etc/passwd"));
        let dir = volume();
        Ownership::of(&pod(Some(4242))).apply(dir.path()).unwrap();
        assert_eq!(of(&dir.path().join("sub")), (4242, 0o2755));
        assert_eq!(of(&dir.path().join("sub/file")), (4242, 0o640));
        assert_eq!(of(&dir.path().join("link")).0, 4242);
        assert_eq!(of(Path::new("/etc/passwd")), passwd);
    }

    #[test]
    fn without_a_group_nothing_is_touched() {
        let dir = volume();
        let before = of(&dir.path().join("sub/file"));
        for no_group in [None, Some(-1)] {
            Ownership::of(&pod(no_group)).apply(dir.path()).unwrap();
        }
        assert_eq!(of(&dir.path().join("sub/file")), before);
    }
}
