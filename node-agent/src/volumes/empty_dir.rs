//! `emptyDir`: a directory on disk, or a tmpfs of its own.

use std::ffi::CString;
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};
use samara_core::quantity::Amount;

use super::directory::{self, DirectoryError};

/// `f_type` of a tmpfs (`linux/magic.h`).
pub(super) const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Makes the directory; one that is there is kept with what is in it.
pub(super) fn set_up(path: &Path, source: &EmptyDirVolumeSource) -> Result<(), DirectoryError> {
    directory::make(path, 0o777)?;
    match source.medium.as_deref() {
        Some("Memory") if !is_tmpfs(path) => mount_tmpfs(path, size(source), 0o777),
        Some(_) | None => Ok(()),
    }
}

/// Bytes; `None`: the kernel's default, half of the memory.
fn size(source: &EmptyDirVolumeSource) -> Option<i64> {
    let amount = Amount::try_from(source.size_limit.as_ref()?).ok()?;
    Some(amount.value()).filter(|bytes| *bytes > 0)
}

pub(crate) fn is_tmpfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|status| status.f_type == TMPFS_MAGIC)
}

pub(super) fn mount_tmpfs(path: &Path, size: Option<i64>, mode: u32) -> Result<(), DirectoryError> {
    let size = size.map(|bytes| format!("size={bytes},")).unwrap_or_default();
    let options = CString::new(format!("{size}mode={mode:o}")).unwrap_or_default();
    mount("tmpfs", path, c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .map_err(|error| DirectoryError::at("mount tmpfs at", path)(error.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    #[test]
    fn a_directory_on_disk_is_for_everyone_and_keeps_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        set_up(&path, &EmptyDirVolumeSource::default()).unwrap();
        fs::write(path.join("kept"), "1").unwrap();
        set_up(&path, &EmptyDirVolumeSource::default()).unwrap();
        assert_eq!(fs::read_to_string(path.join("kept")).unwrap(), "1");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o777);
    }

    #[test]
    fn memory_is_a_tmpfs_that_holds_its_size_limit_and_is_mounted_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let source =
            EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(Quantity("64Ki".to_owned())) };
        set_up(&path, &source).unwrap();
        set_up(&path, &source).unwrap();
        let fits = fs::write(path.join("fits"), vec![0; 32 * 1024]);
        let too_much = fs::write(path.join("too-much"), vec![0; 64 * 1024]);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        directory::remove_tree(&path).unwrap();
        fits.unwrap();
        assert_eq!(too_much.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(mounts.matches(path.to_str().unwrap()).count(), 1);
    }
}
