//! `subPath`: one file or directory of a volume, held by a bind mount so that nobody can swap it for another.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, mkdirat};
use rustix::mount::mount_bind;

use super::directory;

/// A sub path that cannot be had. The text tells nothing of the host's files.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum SubPathError {
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    Backsteps(String),
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {cause}")]
    Prepare { volume: String, container: String, cause: String },
}

/// Whose sub path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) volume: &'a str,
    pub(super) container: &'a str,
    pub(super) sub_path: &'a str,
}

/// Binds `sub_path` of the volume at `root` to `target`. A missing one is made as a directory.
pub(super) fn bind(root: &Path, target: &Path, wish: Wish<'_>) -> Result<(), SubPathError> {
    let path = Path::new(wish.sub_path);
    if path.is_absolute() {
        return Err(SubPathError::Absolute(wish.sub_path.to_owned()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(SubPathError::Backsteps(wish.sub_path.to_owned()));
    }
    bind_inner(root, target, path).map_err(|error| SubPathError::Prepare {
        volume: wish.volume.to_owned(),
        container: wish.container.to_owned(),
        cause: error.kind().to_string(),
    })
}

fn bind_inner(root: &Path, target: &Path, path: &Path) -> io::Result<()> {
    let volume: OwnedFd = File::open(root)?.into();
    let found = match open(&volume, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mode = fs::metadata(root)?.permissions().mode() & 0o7777;
            make(&volume, path, mode)?;
            open(&volume, path)?
        }
        found => found?,
    };
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    // One of an earlier try, or of an earlier agent.
    let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
    if fs::metadata(&source)?.is_dir() {
        directory::make(target, 0o750).map_err(|error| error.source)?;
    } else {
        let parent = target.parent().unwrap_or(target);
        directory::make(parent, 0o750).map_err(|error| error.source)?;
        File::create(target)?;
    }
    Ok(mount_bind(source, target)?)
}

/// Symlinks are followed inside the volume and never out of it.
fn open(volume: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    samara_inside::beneath(volume, path, OFlags::PATH).map_err(|error| match error {
        rustix::io::Errno::XDEV => io::ErrorKind::PermissionDenied.into(),
        other => other.into(),
    })
}

fn make(volume: &OwnedFd, path: &Path, mode: u32) -> io::Result<()> {
    let mut at = open(volume, Path::new("."))?;
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        let name = Path::new(part.as_os_str());
        at = match open(&at, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkdirat(&at, name, Mode::from_raw_mode(mode & 0o777))?;
                let made = open(&at, name)?;
                // Whatever the umask is. The mkdir was ours, so what is opened is not somebody's link.
                fs::set_permissions(format!("/proc/self/fd/{}", made.as_raw_fd()), fs::Permissions::from_mode(mode))?;
                made
            }
            found => found?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("volume/sub")).unwrap();
            fs::write(dir.path().join("volume/sub/file"), "inside").unwrap();
            fs::create_dir(dir.path().join("outside")).unwrap();
            fs::write(dir.path().join("outside/secret"), "secret").unwrap();
            Self { dir }
        }

        fn bind(&self, sub_path: &str) -> Result<std::path::PathBuf, SubPathError> {
            let target = self.dir.path().join("targets").join(sub_path.replace('/', "-"));
            let wish = Wish { volume: "data", container: "app", sub_path };
            bind(&self.dir.path().join("volume"), &target, wish).map(|()| target)
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            directory::remove_tree(&self.dir.path().join("targets")).unwrap();
        }
    }

    #[test]
    fn a_file_and_a_directory_are_bound_and_a_missing_one_is_made() {
        let scene = Scene::new();
        assert_eq!(fs::read_to_string(scene.bind("sub/file").unwrap()).unwrap(), "inside");
        assert_eq!(fs::read_to_string(scene.bind("sub").unwrap().join("file")).unwrap(), "inside");
        fs::set_permissions(scene.dir.path().join("volume"), fs::Permissions::from_mode(0o2770)).unwrap();
        let made = scene.bind("new/deep").unwrap();
        fs::write(made.join("x"), "1").unwrap();
        let inside = scene.dir.path().join("volume/new/deep");
        assert_eq!(fs::read_to_string(inside.join("x")).unwrap(), "1");
        assert_eq!(fs::metadata(inside).unwrap().permissions().mode() & 0o7777, 0o2770);
    }

    #[test]
    fn a_link_inside_is_followed_and_one_that_leads_out_is_not() {
        let scene = Scene::new();
        let volume = scene.dir.path().join("volume");
        symlink("sub/file", volume.join("good")).unwrap();
        assert_eq!(fs::read_to_string(scene.bind("good").unwrap()).unwrap(), "inside");
        symlink("../outside", volume.join("up")).unwrap();
        symlink(scene.dir.path().join("outside"), volume.join("absolute")).unwrap();
        for evil in ["up", "up/secret", "absolute", "absolute/secret", "absolute/new"] {
            let error = scene.bind(evil).expect_err(evil).to_string();
            assert!(error.starts_with("failed to prepare subPath for volumeMount \"data\""), "{error}");
            assert!(!error.contains("outside"), "{error}");
        }
        assert!(!scene.dir.path().join("outside/new").exists());
    }

    #[test]
    fn steps_back_and_absolute_paths_are_refused_by_name() {
        let scene = Scene::new();
        assert_eq!(scene.bind("/etc").unwrap_err(), SubPathError::Absolute("/etc".to_owned()));
        assert_eq!(scene.bind("sub/../sub").unwrap_err(), SubPathError::Backsteps("sub/../sub".to_owned()));
    }
}
