//! `emptyDir`: a directory on disk, or a tmpfs of its own.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};
use samara_core::quantity::Amount;

use super::directory::{self, DirectoryError};
use super::ownership::Ownership;

/// `f_type` of a tmpfs (`linux/magic.h`).
pub(super) const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Makes the directory. One that is there is its containers': its mode, its group and what is in it stay as they are.
pub(super) fn set_up(path: &Path, source: &EmptyDirVolumeSource, of: Ownership) -> Result<(), DirectoryError> {
    let (mode, group) = (of.mode_of_empty_directory(), of.group());
    if !path.exists() {
        make(path, mode, group)?;
    }
    match source.medium.as_deref() {
        Some("Memory") if !is_tmpfs(path) => mount_tmpfs(path, size(source), mode, group),
        Some(_) | None => Ok(()),
    }
}

/// By rename: one that has the name is whole. Names of volumes do not begin with a dot.
fn make(path: &Path, mode: u32, group: Option<u32>) -> Result<(), DirectoryError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    directory::make(&new, 0o700)?;
    chown(&new, None, group).map_err(DirectoryError::at("give to the group", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).map_err(DirectoryError::at("set the mode of", &new))?;
    fs::rename(&new, path).map_err(DirectoryError::at("rename", &new))
}

/// Bytes; `None`: the kernel's default, half of the memory.
fn size(source: &EmptyDirVolumeSource) -> Option<i64> {
    let amount = Amount::try_from(source.size_limit.as_ref()?).ok()?;
    Some(amount.value()).filter(|bytes| *bytes > 0)
}

pub(crate) fn is_tmpfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|status| status.f_type == TMPFS_MAGIC)
}

pub(super) fn mount_tmpfs(path: &Path, size: Option<i64>, mode: u32, group: Option<u32>) -> Result<(), DirectoryError> {
    let size = size.map(|bytes| format!("size={bytes},")).unwrap_or_default();
    let group = group.map(|group| format!("gid={group},")).unwrap_or_default();
    let options = CString::new(format!("{size}{group}mode={mode:o}")).unwrap_or_default();
    mount("tmpfs", path, c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .map_err(|error| DirectoryError::at("mount tmpfs at", path)(error.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    const NOBODYS: Ownership = Ownership::new(None);

    fn in_memory(limit: &str) -> EmptyDirVolumeSource {
        EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(Quantity(limit.to_owned())) }
    }

    fn group_and_mode(path: &Path) -> (u32, u32) {
        let metadata = fs::metadata(path).unwrap();
        (metadata.gid(), metadata.mode() & 0o7777)
    }

    #[test]
    fn a_directory_is_for_everyone_or_for_the_group_too() {
        let dir = tempfile::tempdir().unwrap();
        for (number, source) in [EmptyDirVolumeSource::default(), in_memory("64Ki")].into_iter().enumerate() {
            let (plain, of_group) = (dir.path().join(format!("p{number}")), dir.path().join(format!("g{number}")));
            set_up(&plain, &source, NOBODYS).unwrap();
            set_up(&of_group, &source, Ownership::new(Some(4242))).unwrap();
            let seen = [&plain, &of_group].map(|path| group_and_mode(path));
            [plain, of_group].iter().for_each(|path| directory::remove_tree(path).unwrap());
            assert_eq!(seen, [(0, 0o777), (4242, 0o2777)], "{source:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is beside them");
    }

    #[test]
    fn what_containers_made_of_theirs_outlives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let of_group = Ownership::new(Some(4242));
        for (number, source) in [EmptyDirVolumeSource::default(), in_memory("64Ki")].into_iter().enumerate() {
            let path = dir.path().join(number.to_string());
            set_up(&path, &source, of_group).unwrap();
            let file = path.join("key");
            fs::write(&file, "1").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o2700)).unwrap();
            let before = (group_and_mode(&path), group_and_mode(&file));
            set_up(&path, &source, of_group).unwrap();
            let after = (group_and_mode(&path), group_and_mode(&file), fs::read_to_string(&file).unwrap());
            directory::remove_tree(&path).unwrap();
            assert_eq!(after, (before.0, before.1, "1".to_owned()), "{source:?}");
            assert_eq!((after.0.1, after.1.1), (0o2700, 0o600), "{source:?}");
        }
    }

    #[test]
    fn a_directory_that_was_not_made_to_its_end_is_made_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".v.new")).unwrap();
        set_up(&dir.path().join("v"), &EmptyDirVolumeSource::default(), Ownership::new(Some(4242))).unwrap();
        assert_eq!(group_and_mode(&dir.path().join("v")), (4242, 0o2777));
    }

    #[test]
    fn memory_is_a_tmpfs_that_holds_its_size_limit_and_is_mounted_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let source = in_memory("64Ki");
        set_up(&path, &source, NOBODYS).unwrap();
        set_up(&path, &source, NOBODYS).unwrap();
        let fits = fs::write(path.join("fits"), vec![0; 32 * 1024]);
        let too_much = fs::write(path.join("too-much"), vec![0; 64 * 1024]);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        directory::remove_tree(&path).unwrap();
        fits.unwrap();
        assert_eq!(too_much.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(mounts.matches(path.to_str().unwrap()).count(), 1);
    }
}
